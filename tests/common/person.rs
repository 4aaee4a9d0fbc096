//! Somebody who is logged in at the server, and what the tests of the control plane share besides.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::common::{self, PATIENCE, Running, Server, told};

pub const PASSWORD: &str = "walrus pedal quarry";

/// Adds an administrator by the command line, as one does before the first login.
pub fn add_user(server: &Server, settings: &[&str], arguments: &[&str]) -> (bool, String) {
    let data = format!("data.dir={}", server.folder.path().join("data").display());
    let mut command = Command::new(common::program());
    command.current_dir(server.folder.path()).arg("user").args(arguments).args(["--set", &data]);
    for set in settings {
        command.args(["--set", set]);
    }
    let mut adding = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(adding.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    let output = adding.wait_with_output().unwrap();
    (output.status.success(), told(&output))
}

/// Somebody who is logged in.
pub struct Person {
    http: Client,
    pub base: String,
    pub cookie: String,
    csrf: String,
}

impl Person {
    pub async fn log_in(server: &Server, name: &str) -> Self {
        let (http, base) = (Client::new(), format!("http://{}/api/v1", server.http));
        let login = json!({ "name": name, "password": PASSWORD });
        let answer = http.post(format!("{base}/session")).json(&login).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let csrf = answer.json::<Value>().await.unwrap()["csrf"].as_str().unwrap().to_owned();
        Self { http, base, cookie, csrf }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        request.header("cookie", &self.cookie).header("x-csrf-token", &self.csrf)
    }

    pub async fn read(&self, path: &str) -> Value {
        loop {
            let answer = self.request(Method::GET, path).send().await.unwrap();
            // Whoever asks again and again is told when they may go on.
            if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                let after = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                tokio::time::sleep(Duration::from_secs(after)).await;
                continue;
            }
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            return answer.json().await.unwrap();
        }
    }

    /// All records that are in the database.
    pub async fn records(&self) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.read(&format!("/call-records?limit=100{cursor}")).await;
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&after={next}"),
                None => return all,
            }
        }
    }

    pub async fn ask(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.request(method, path).json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    /// Reads a path until it has what is wanted.
    pub async fn wait<T>(&self, path: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let value = self.read(path).await;
            if let Some(found) = wanted(&value) {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path}: {value}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The settings of a server on PostgreSQL, in a database of its own.
pub fn postgres() -> String {
    let admin = std::env::var("OMNIVOX_TEST_POSTGRES").expect("scripts/test says where PostgreSQL is");
    let name = format!("test_{}_{}", std::process::id(), common::free_port());
    let made =
        Command::new("psql").arg(&admin).args(["-q", "-c", &format!("CREATE DATABASE {name}")]).status().unwrap();
    assert!(made.success());
    format!("control.database={}", admin.replace("/postgres?", &format!("/{name}?")))
}

/// Places a call that goes on until it is told to end.
pub fn call(server: &Server, user: &str) -> Running {
    let mut command = Command::new(common::program());
    let ports = format!("rtp.ports={}", common::rtp_ports());
    command.current_dir(server.folder.path()).args(["call", &server.uri(user), "--duration", "600", "--set", &ports]);
    Running::start(&mut command)
}

pub fn only(list: &Value) -> Option<Value> {
    list["items"].as_array()?.first().cloned()
}
