//! Tables of responses, usual and odd ones.

use super::*;

const MOST: Duration = Duration::from_secs(30);

/// Reads the response in one piece and byte by byte, which has to be the same.
fn read(response: &[u8]) -> Reader {
    let (mut whole, mut bytewise) = (Reader::default(), Reader::default());
    whole.feed(response);
    response.iter().for_each(|byte| bytewise.feed(&[*byte]));
    let seen = |reader: &Reader| (reader.answer(), reader.has_ended(), reader.keeps_alive(MOST));
    assert_eq!(seen(&whole), seen(&bytewise), "{}", String::from_utf8_lossy(response));
    whole
}

fn status(reader: &Reader) -> Option<u16> {
    reader.answer().map(|answer| answer.status)
}

#[test]
fn the_status_line_decides() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(2000));
    let much = format!("HTTP/1.1 503 X\r\nretry-after: 7\r\nx: {}", "y".repeat(MAX_HEAD));
    for (response, want) in [
        ("HTTP/1.1 200 OK\r\nX-Long: one\r\n two\r\n\r\n", Some(200)),
        ("HTTP/1.1 200 OK\r\nPHP Warning: x in Unknown on line 0\r\n\r\n", Some(200)),
        ("HTTP/1.1 200 OK\r\nX-A : 1\r\n\r\n", Some(200)),
        ("HTTP/1.1 200 OK\r\nno colon\r\n: no name\r\n\0\u{e9}: x\r\n\r\n", Some(200)),
        ("HTTP/1.1 200 OK\nx: y\n\n", Some(200)),
        ("HTTP/1.1 200\r\n\r\n", Some(200)),
        ("HTTP/1.1  201  two spaces\r\n\r\n", Some(201)),
        ("HTTP/1.0 200 OK\r\n\r\n", Some(200)),
        ("HTTP/2.0 202 OK\r\n\r\n", Some(202)),
        ("HTTP/2 202\r\n\r\n", Some(202)),
        ("\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Some(200)),
        ("HTTP/1.1 999 X\r\n\r\n", Some(999)),
        ("HTTP/1.1 101 Switching\r\n\r\n", Some(101)),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 410 Gone\r\n\r\n",
            Some(410),
        ),
        // Unreadable framing.
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", Some(200)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", Some(200)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense", Some(200)),
        // The response breaks off.
        ("HTTP/1.1 200", Some(200)),
        ("HTTP/1.1 200 O", Some(200)),
        ("HTTP/1.1 200 OK\r\nx: y", Some(200)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx", Some(200)),
        (&many, Some(200)),
        (&much, Some(503)),
        // No status line.
        ("HTTP/1.1 20", None),
        ("HTTP/1.1 2000 OK\r\n\r\n", None),
        ("HTTP/1.1 099 X\r\n\r\n", None),
        ("HTTP/1.1 +20 X\r\n\r\n", None),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", None),
        ("HTTP/1.1 103 Early Hi", None),
        ("HTTP/x 200 OK\r\n\r\n", None),
        ("http/1.1 200 ok\r\n\r\n", None),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", None),
        ("<html>\r\n\r\n", None),
        ("", None),
    ] {
        assert_eq!(status(&read(response.as_bytes())), want, "{response:.60?}");
    }
}

#[test]
fn what_is_no_response() {
    for (response, want) in [
        ("", false),
        ("\r\n", false),
        ("HT", false),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", false),
        ("HTTP/1.1 200 OK", false),
        ("he", true),
        ("helloHTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 nothing\r\n\r\n", true),
    ] {
        let reader = read(response.as_bytes());
        assert_eq!((reader.is_foreign(), reader.is_untouched()), (want, response.trim().is_empty()), "{response:?}");
    }
}

/// From then on the rest of a response gets a while, not all of the attempt's time.
#[test]
fn the_status_is_known_before_the_head_ends() {
    for (response, want) in [
        ("", false),
        ("HTTP/1.1 20", false),
        ("HTTP/1.1 200", true),
        ("HTTP/1.1 200 OK\r\nx: y", true),
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 103 Early Hints\r\n", false),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", false),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 O", true),
        ("SSH-2.0-OpenSSH_9.6", false),
        ("SSH-2.0-OpenSSH_9.6\r\n", true),
    ] {
        assert_eq!(read(response.as_bytes()).has_status(), want, "{response}");
    }
}

#[test]
fn a_connection_is_used_again_only_after_a_response_that_was_read_to_its_exact_end() {
    let s = Duration::from_secs;
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n{}", "x".repeat(70_000));
    for (response, ended, want) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true, Some(MOST)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", true, Some(MOST)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true, Some(MOST)),
        ("HTTP/1.1 204 No Content\r\n\r\n", true, Some(MOST)),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", true, Some(MOST)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nt: x\r\n\r\n", true, Some(MOST)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", true, Some(MOST)),
        ("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 2\r\n\r\nok", true, Some(MOST)),
        ("HTTP/1.1 200 OK\r\nkeep-alive: max=9, timeout=4\r\ncontent-length: 0\r\n\r\n", true, Some(s(3))),
        ("HTTP/1.1 200 OK\r\nkeep-alive: timeout=99999\r\ncontent-length: 0\r\n\r\n", true, Some(MOST)),
        ("HTTP/1.1 200 OK\r\nKeep-Alive: Timeout = \"4\"\r\ncontent-length: 0\r\n\r\n", true, Some(s(3))),
        ("HTTP/1.1 200 OK\r\nkeep-alive: timeout=4.9\r\ncontent-length: 0\r\n\r\n", true, Some(s(3))),
        ("HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\ncontent-length: 0\r\n\r\n", true, Some(s(0))),
        ("HTTP/1.1 200 OK\r\nkeep-alive: timeout=-1\r\ncontent-length: 0\r\n\r\n", true, Some(s(0))),
        // More than was announced, or less.
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP", true, None),
        ("HTTP/1.1 204 No Content\r\n\r\nbody", true, None),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\n", true, None),
        ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", true, None),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n", true, None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", false, None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", false, None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP", true, None),
        // The end is not known, or others may see another one.
        ("HTTP/1.1 200 OK\r\n\r\nok", false, None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", true, None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n", true, None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", true, None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n", true, None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n", true, None),
        ("HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok", true, None),
        ("HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 2\r\n\r\nok", true, None),
        ("HTTP/1.1 200 OK\r\nx\r\ncontent-length: 2\r\n\r\nok", true, None),
        ("HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok", true, None),
        // The server says so.
        ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok", true, None),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", true, None),
        ("HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\nok", true, None),
        ("HTTP/1.1 101 Switching\r\n\r\n", true, None),
        (&large, true, None),
    ] {
        let reader = read(response.as_bytes());
        assert_eq!((reader.has_ended(), reader.keeps_alive(MOST)), (ended, want), "{response:.90?}");
    }
}

#[test]
fn retry_after_is_told_however_it_comes() {
    for (response, want) in [
        ("HTTP/1.1 503 X\r\nRETRY-AFTER:  7 \r\n\r\n", Some("7")),
        ("HTTP/1.1 500 X\r\nretry-after: 7\r\nretry-after: 9\r\n\r\n", Some("7, 9")),
        ("HTTP/1.1 429 X\r\nretry-after:\r\n\t7\r\n\r\n", Some("7")),
        ("HTTP/1.1 429 X\r\nretry-after : 7\r\n\r\n", Some("7")),
        ("HTTP/1.1 429 X\r\nretry-after: 7", Some("7")),
        ("HTTP/1.1 200 OK\r\nretry-after: 7\r\n\r\n", None),
        ("HTTP/1.1 429 X\r\n\r\n", None),
    ] {
        let answer = read(response.as_bytes()).answer().unwrap();
        assert_eq!(answer.retry_after.as_deref(), want, "{response:?}");
    }
}
