//! What happens, as it does: by server-sent events and by WebSocket, for those who may know. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::Role;
use control::time::Moment;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use server::{Asker, Server, on_both};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Reads server-sent events until there are so many.
async fn read(asker: &Asker, query: &str, last: Option<&str>, wanted: usize) -> Vec<(String, Value)> {
    let mut request = asker.request(reqwest::Method::GET, &format!("/events{query}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut stream, mut text, mut events) = (answer.bytes_stream(), String::new(), Vec::new());
    while events.len() < wanted {
        text.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
        while let Some((event, rest)) = text.clone().split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                events.push((id, serde_json::from_str(&data).unwrap()));
            }
            text = rest.to_owned();
        }
    }
    events
}

fn tell(server: &Server, call: &str, devices: &[&str]) {
    let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
    server.control.live.tell(Moment::now(), "turn", call, &devices, json!({ "text": "hello" }));
}

#[tokio::test]
async fn whoever_comes_back_reads_on_and_sees_only_what_they_may() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        server.user("bob", Role::Operator, None, Some("bob")).await;
        let bob = server.log_in("bob").await;
        tell(&server, "c1", &["alice"]);
        tell(&server, "c2", &["bob", "alice"]);
        tell(&server, "c3", &["bob"]);
        let start = server.control.live.latest() - 3;
        let all = read(&ada, &format!("?after={start}"), None, 3).await;
        assert_eq!(
            all.iter().map(|(_, event)| event["call"].as_str().unwrap()).collect::<Vec<_>>(),
            ["c1", "c2", "c3"]
        );
        assert_eq!((all[0].1["type"].as_str(), &all[0].1["data"]), (Some("turn"), &json!({ "text": "hello" })));
        let rest = read(&ada, "", Some(&all[0].0), 2).await;
        assert_eq!(rest, all[1..]);
        let his = read(&bob, &format!("?after={start}"), None, 2).await;
        assert_eq!(his.iter().map(|(_, event)| event["call"].as_str().unwrap()).collect::<Vec<_>>(), ["c2", "c3"]);
        // Before this server's time.
        assert_eq!(read(&ada, "?after=1", None, 1).await[0].1["type"], "gap");
    })
    .await;
}

#[tokio::test]
async fn a_websocket_gets_the_same_and_foreign_pages_get_none() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        let open = async |origin: Option<&str>| {
            let url = format!("{}/api/v1/events", server.base.replace("http:", "ws:"));
            let mut request = url.into_client_request().unwrap();
            request.headers_mut().insert("cookie", ada.cookie.as_ref().unwrap().parse().unwrap());
            if let Some(origin) = origin {
                request.headers_mut().insert("origin", origin.parse().unwrap());
            }
            tokio_tungstenite::connect_async(request).await
        };
        assert!(open(Some("https://evil.example")).await.is_err());
        let (mut socket, _) = open(Some(&server.base)).await.unwrap();
        socket.send(Message::Text("whatever".into())).await.unwrap();
        tell(&server, "c1", &[]);
        let Message::Text(text) = socket.next().await.unwrap().unwrap() else { panic!("no text") };
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((event["call"].as_str(), event["type"].as_str()), (Some("c1"), Some("turn")));
        assert!(event["id"].as_u64().unwrap() > 0 && event.get("devices").is_none());
        // Whoever reads nothing for a while is told everything all the same, in order, and how it ends.
        for _ in 0..2_000 {
            tell(&server, "c2", &[]);
        }
        server.control.live.end();
        let mut last = event["id"].as_u64().unwrap();
        let mut count = 0;
        let close = loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(event["id"].as_u64(), Some(last + 1));
                    (last, count) = (last + 1, count + 1);
                }
                Message::Close(close) => break close.unwrap(),
                _ => {}
            }
        };
        assert_eq!((count, u16::from(close.code), close.reason.as_str()), (2_000, 1001, "the server stops"));
    })
    .await;
}
