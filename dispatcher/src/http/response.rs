//! Reads a response for as little as an attempt needs: the status, `Retry-After`, and where the response ends.
//!
//! The status line decides what a response means, and nothing after it unmakes that. So header lines are read leniently:
//! folded, malformed and many of them are fine, up to [`MAX_HEAD`] bytes. What follows matters only to the connection,
//! which is used again if the response was well-formed and was read to its exact end (RFC 9112, 6.3 and 9.3).

mod chunks;

use std::time::Duration;

use chunks::Chunks;

/// The most bytes of a response's head, with those of interim responses. The status of a longer one counts.
const MAX_HEAD: usize = 64 << 10;
/// How much of a response's body is read so that its connection can be used again. A longer body closes the connection.
const MAX_BODY: u64 = 64 << 10;

/// Reads one response.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    answer: Option<Answer>,
    /// The beginning of a head that is not complete.
    partial: Vec<u8>,
    /// How much of `partial` was searched for the end of the head.
    searched: usize,
    /// The bytes of the heads and the body that were read.
    heads: usize,
    body: u64,
    /// Whether anything but line breaks was read.
    begun: bool,
    keep_alive: KeepAlive,
}

/// What a response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The values of `Retry-After`, joined by commas; none if the status is a success.
    pub(crate) retry_after: Option<String>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Body(Body),
    /// The response has ended, or can't be read on.
    Ended,
}

#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

/// Whether the connection may be used again, once the response has ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum KeepAlive {
    #[default]
    No,
    Yes,
    For(Duration),
}

impl Reader {
    /// Reads the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.begun |= bytes.iter().any(|byte| !is_line_break(*byte));
        if self.partial.is_empty() {
            return self.read(bytes);
        }
        if self.has_ended() {
            return;
        }
        self.partial.extend_from_slice(bytes);
        match head_end(&self.partial, self.searched) {
            Some(_) => {
                let all = std::mem::take(&mut self.partial);
                self.read(&all);
            }
            None => self.wait_for_more(),
        }
    }

    /// Whether nothing of a response was read yet. Line breaks before it are not of it.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.begun
    }

    /// Whether the status was read, or what came instead of it.
    pub(crate) fn has_status(&self) -> bool {
        self.has_head()
            || match StatusLine::of(&self.partial) {
                Some(line) => !line.is_interim(),
                None => self.partial.contains(&b'\n'),
            }
    }

    /// Whether the head was read, or can't be read on.
    fn has_head(&self) -> bool {
        !matches!(self.state, State::Head)
    }

    /// Whether the response has ended, or can't be read on.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether the endpoint has accepted the request.
    pub(crate) fn is_success(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| (200..300).contains(&answer.status))
    }

    /// Whether the endpoint says that no request came over the connection in time, and closes it (RFC 9110, 15.5.9). One
    /// that says when to come again has seen the request.
    pub(crate) fn has_waited_in_vain(&self) -> bool {
        let timed_out = |answer: &Answer| answer.status == 408 && answer.retry_after.is_none();
        self.keep_alive == KeepAlive::No && self.answer.as_ref().is_some_and(timed_out)
    }

    /// Whether what came is no response, such as what the server sends too late after the one before.
    pub(crate) fn is_foreign(&self) -> bool {
        let begins = b"HTTP/".iter().zip(&self.partial).all(|(wanted, byte)| wanted == byte);
        self.begun && self.answer().is_none() && (self.has_ended() || !begins)
    }

    /// For how long the connection may wait for the next request, at most as long as `most`. `None` if it can't be used
    /// again.
    pub(crate) fn keeps_alive(&self, most: Duration) -> Option<Duration> {
        match self.keep_alive {
            _ if !self.has_ended() => None,
            KeepAlive::No => None,
            KeepAlive::Yes => Some(most),
            KeepAlive::For(time) => Some(time.min(most)),
        }
    }

    /// What the response says, as far as it was read. A status line counts also if nothing follows it.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.answer.clone().or_else(|| {
            let line = StatusLine::of(&self.partial).filter(|line| !line.is_interim())?;
            Some(line.answer(Fields::of(&self.partial)))
        })
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while !self.has_head() {
            // Some servers end the previous response with a line too many.
            let start = bytes.iter().position(|byte| !is_line_break(*byte)).unwrap_or(bytes.len());
            self.heads += start;
            bytes = &bytes[start..];
            let Some(end) = head_end(bytes, 0) else {
                self.partial = bytes.to_vec();
                return self.wait_for_more();
            };
            let (head, rest) = bytes.split_at(end);
            bytes = rest;
            self.heads += head.len();
            self.take(head);
        }
        if !bytes.is_empty() {
            self.read_body(bytes);
        }
    }

    fn wait_for_more(&mut self) {
        self.searched = self.partial.len();
        if self.heads + self.partial.len() > MAX_HEAD {
            self.state = State::Ended;
        }
    }

    /// Takes a complete head.
    fn take(&mut self, head: &[u8]) {
        let Some(line) = StatusLine::of(head) else {
            self.state = State::Ended;
            return;
        };
        if line.is_interim() {
            if self.heads > MAX_HEAD {
                self.state = State::Ended;
            }
            return;
        }
        let fields = Fields::of(head);
        let body = fields.body(line.status);
        self.keep_alive = match body {
            Some(Body::UntilClose) | None => KeepAlive::No,
            Some(_) => fields.keep_alive(&line),
        };
        self.state = match body {
            Some(Body::Length(0)) | None => State::Ended,
            Some(body) => State::Body(body),
        };
        self.answer = Some(line.answer(fields));
    }

    fn read_body(&mut self, bytes: &[u8]) {
        self.body += bytes.len() as u64;
        let over = self.body > MAX_BODY;
        let rest = match &mut self.state {
            State::Body(Body::Length(left)) => {
                let read = (*left).min(bytes.len() as u64);
                *left -= read;
                (*left == 0).then_some(bytes.len() as u64 - read)
            }
            State::Body(Body::Chunked(chunks)) => match chunks.read(bytes) {
                Ok(rest) => rest.map(|rest| rest as u64),
                Err(Malformed) => Some(1),
            },
            State::Body(Body::UntilClose) => None,
            // Bytes after the end belong to no request.
            State::Head | State::Ended => Some(bytes.len() as u64),
        };
        if rest.is_some() || over {
            self.state = State::Ended;
        }
        if rest.is_some_and(|rest| rest > 0) || over {
            self.keep_alive = KeepAlive::No;
        }
    }
}

/// A status line, read leniently: `HTTP/`, a version, and a status of three digits.
struct StatusLine {
    status: u16,
    minor: Option<u8>,
}

impl StatusLine {
    fn of(head: &[u8]) -> Option<Self> {
        let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next()?.strip_prefix(b"HTTP/")?;
        let version = line.iter().position(|byte| matches!(byte, b' ' | b'\t'))?;
        let (version, rest) = line.split_at(version);
        if !version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return None;
        }
        let rest = rest.trim_ascii_start();
        let (digits, after) = rest.split_at_checked(3)?;
        let ends = after.first().is_none_or(|byte| matches!(byte, b' ' | b'\t'));
        let status = std::str::from_utf8(digits).ok()?.parse().ok().filter(|status| ends && *status >= 100)?;
        let minor = match version {
            b"1.1" => Some(1),
            b"1.0" => Some(0),
            _ => None,
        };
        Some(Self { status, minor })
    }

    /// Whether another response follows. After 101 none does that is HTTP.
    fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    fn answer(&self, fields: Fields) -> Answer {
        let success = (200..300).contains(&self.status);
        Answer { status: self.status, retry_after: fields.retry_after.filter(|_| !success) }
    }
}

/// The header fields that matter.
#[derive(Debug, Default)]
struct Fields {
    retry_after: Option<String>,
    /// `Err` if the values differ, or one of them is no length.
    length: Option<Result<u64, Malformed>>,
    /// The transfer coding; `Err` if it is not `chunked` alone.
    coding: Option<Result<(), Malformed>>,
    close: bool,
    keep_alive: bool,
    timeout: Option<u64>,
    /// A line is folded or is no field. Where the response ends may be read differently by others.
    odd: bool,
}

/// Something that is not as HTTP says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Malformed;

impl Fields {
    /// Reads the fields of a head, which may break off.
    fn of(head: &[u8]) -> Self {
        let mut fields = Self::default();
        let mut lines = head.split(|byte| *byte == b'\n').skip(1).peekable();
        while let Some(line) = lines.next() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                fields.odd |= !line.is_empty();
                continue;
            };
            let name = line[..colon].trim_ascii();
            fields.odd |= name.len() != colon;
            let mut value = String::from_utf8_lossy(line[colon + 1..].trim_ascii());
            while let Some(more) = lines.next_if(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
                fields.odd = true;
                value = format!("{value} {}", String::from_utf8_lossy(more.trim_ascii())).into();
            }
            fields.add(name, value.trim());
        }
        fields
    }

    fn add(&mut self, name: &[u8], value: &str) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let mut tokens = value.split(',').map(str::trim);
        if is("content-length") {
            for length in tokens {
                let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.parse().ok().filter(|_| digits).ok_or(Malformed);
                let same = self.length.is_none_or(|before| before == length);
                self.length = Some(if same { length } else { Err(Malformed) });
            }
        } else if is("transfer-encoding") {
            let alone = self.coding.is_none() && value.eq_ignore_ascii_case("chunked");
            self.coding = Some(if alone { Ok(()) } else { Err(Malformed) });
        } else if is("connection") {
            for token in tokens {
                self.close |= token.eq_ignore_ascii_case("close");
                self.keep_alive |= token.eq_ignore_ascii_case("keep-alive");
            }
        } else if is("keep-alive") {
            let timeout = |token: &str| {
                let (name, time) = token.split_once('=')?;
                // Quotes and fractions occur. What is no time at all is the shortest.
                let time = time.trim().trim_start_matches('"');
                let digits = time.find(|char: char| !char.is_ascii_digit()).unwrap_or(time.len());
                name.trim().eq_ignore_ascii_case("timeout").then(|| time[..digits].parse().unwrap_or(0))
            };
            self.timeout = tokens.find_map(timeout).or(self.timeout);
        } else if is("retry-after") {
            self.retry_after = Some(match self.retry_after.take() {
                Some(before) => format!("{before}, {value}"),
                None => value.to_owned(),
            });
        }
    }

    /// The body that follows (RFC 9112, 6.3). `None` if it can't be read to its end: the connection has to be closed.
    fn body(&self, status: u16) -> Option<Body> {
        match (self.coding, self.length) {
            _ if status == 101 => None,
            (None, None | Some(Ok(0))) if matches!(status, 204 | 304) => Some(Body::Length(0)),
            _ if matches!(status, 204 | 304) => None,
            (None, None) => Some(Body::UntilClose),
            (None, Some(length)) => length.ok().map(Body::Length),
            (Some(Ok(())), None) => Some(Body::Chunked(Chunks::default())),
            (Some(_), _) => None,
        }
    }

    fn keep_alive(&self, line: &StatusLine) -> KeepAlive {
        let version = match line.minor {
            Some(1) => true,
            Some(_) => self.keep_alive && self.coding.is_none(),
            None => false,
        };
        match self.timeout {
            _ if !version || self.close || self.odd => KeepAlive::No,
            None => KeepAlive::Yes,
            // A request that is under way when the time ends finds the connection closed.
            Some(seconds) => KeepAlive::For(Duration::from_secs(seconds.min(3600)) * 3 / 4),
        }
    }
}

fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The length of a head up to and with the empty line at its end. The bytes before `from` were searched before.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    // The end may have begun in the last bytes that were searched.
    let from = from.saturating_sub(3);
    let mut lines = bytes.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    lines.find_map(|line| match bytes[line..] {
        [b'\n', ..] => Some(line + 1),
        [b'\r', b'\n', ..] => Some(line + 2),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
