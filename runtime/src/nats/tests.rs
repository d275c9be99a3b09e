use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Starts a server that says it has this version and answers pings, and nothing else. Returns its URL.
async fn server(version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, version));
        }
    });
    url
}

async fn talk(stream: TcpStream, version: &str) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let info = json!({ "version": version, "headers": true, "jetstream": true, "max_payload": 1 << 20 });
    write.write_all(format!("INFO {info}\r\n").as_bytes()).await?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        if line == "PING" {
            write.write_all(b"PONG\r\n").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_older_than_the_oldest_that_will_do_is_refused() {
    for (version, will_do) in [
        ("2.10.29", false),
        ("2.12.0", false),
        ("2.12.6", false),
        ("2.12.7", true),
        ("2.13.0", true),
        ("3.0.0", true),
        ("none", false),
    ] {
        let url = server(version).await;
        let client = async_nats::connect(&url).await.unwrap();
        assert_eq!(check_server(&client).is_ok(), will_do, "{version}");
        if !will_do {
            let settings = json!({ "url": url, "inboxPrefix": "_INBOX_test" });
            let refused = connect(&serde_json::from_value(settings).unwrap(), "test").await.err();
            assert!(matches!(&refused, Some(NatsError::TooOld { version: said }) if said == version), "{refused:?}");
            let said = refused.unwrap().to_string();
            assert!(said.contains(&format!("{version} is too old")) && said.contains("2.12.7 or newer"), "{said}");
        }
    }
}
