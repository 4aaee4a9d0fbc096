//! The audit log: what people did stands there, and whatever is done to it afterwards is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use control::identity::Role;
use control::store::audit::Anchor;
use control::time::Moment;
use serde_json::json;
use server::{Server, on_both};

#[tokio::test]
async fn what_people_did_stands_in_the_log_without_secrets() {
    on_both(|server| async move {
        let ada = server.as_role(Role::Administrator).await;
        ada.post(
            "/users",
            json!({ "name": "bob", "display": "Bob", "role": "operator", "password": "gravel sonnet orbit" }),
        )
        .await;
        server.board.add("c1", &[]);
        ada.delete("/calls/c1").await;
        let page = ada.read("/audit").await;
        let entries = page["items"].as_array().unwrap();
        let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["call.hang_up", "user.create", "session.open"]);
        assert!(entries.iter().all(|entry| entry["actor"] == "administrator"));
        assert!(!page.to_string().contains("gravel"));
        let held = ada.read("/audit/verification").await;
        assert_eq!((&held["holds"], &held["anchor"]["seq"]), (&json!(true), &json!(3)));
    })
    .await;
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % n).unwrap()
    }
}

const ENTRIES: i64 = 40;
const TRIES: usize = 250;

/// Writes a chain, does something to it, says whether that was found; then puts it back as it was.
async fn is_found(server: &Server, anchor: &Anchor, sql: &[String]) -> bool {
    let (pool, store) = (server.control.store.pool(), &server.control.store);
    let mut change = pool.acquire().await.unwrap();
    for sql in ["DROP TABLE IF EXISTS kept", "CREATE TABLE kept AS SELECT * FROM audit"] {
        sqlx::query(sql).execute(&mut *change).await.unwrap();
    }
    for sql in sql {
        sqlx::query(sqlx::AssertSqlSafe(sql.clone())).execute(&mut *change).await.unwrap();
    }
    drop(change);
    let found = store.verify_audit(Some(anchor)).await.unwrap().is_some();
    let mut change = pool.acquire().await.unwrap();
    for sql in ["DELETE FROM audit", "INSERT INTO audit SELECT * FROM kept", "DROP TABLE kept"] {
        sqlx::query(sql).execute(&mut *change).await.unwrap();
    }
    drop(change);
    assert_eq!(store.verify_audit(Some(anchor)).await.unwrap(), None, "put back it holds");
    found
}

#[tokio::test]
async fn entries_that_are_edited_deleted_swapped_or_cut_off_are_found_a_thousand_times_of_a_thousand() {
    on_both(|server| async move {
        for n in 0..ENTRIES {
            let detail = json!({ "n": n });
            server
                .control
                .store
                .add_audit("ada", "user.change", &format!("user-{n}"), &detail, Moment(n * 1_000))
                .await
                .unwrap();
        }
        let anchor = server.control.store.audit_end().await.unwrap();
        assert_eq!(anchor.seq, ENTRIES);
        assert_eq!(server.control.store.verify_audit(Some(&anchor)).await.unwrap(), None);
        let mut dice = Dice(7);
        let mut found = 0;
        for _ in 0..TRIES {
            let seq = dice.below(ENTRIES as u64) + 1;
            let column = ["actor", "action", "subject", "detail", "hash"][usize::try_from(dice.below(5)).unwrap()];
            let edit = if dice.below(6) == 0 {
                format!("UPDATE audit SET at = at + 1 WHERE seq = {seq}")
            } else {
                format!("UPDATE audit SET {column} = {column} || 'x' WHERE seq = {seq}")
            };
            found += usize::from(is_found(&server, &anchor, &[edit]).await);
            // Deleted; every other time those that follow move up.
            let mut delete = vec![format!("DELETE FROM audit WHERE seq = {seq}")];
            if dice.below(2) == 0 {
                delete.extend((seq + 1..=ENTRIES).map(|n| format!("UPDATE audit SET seq = {} WHERE seq = {n}", n - 1)));
            }
            found += usize::from(is_found(&server, &anchor, &delete).await);
            let other = (seq % ENTRIES) + 1;
            let swap = [
                format!("UPDATE audit SET seq = -1 WHERE seq = {seq}"),
                format!("UPDATE audit SET seq = {seq} WHERE seq = {other}"),
                format!("UPDATE audit SET seq = {other} WHERE seq = -1"),
            ];
            found += usize::from(is_found(&server, &anchor, &swap).await);
            found += usize::from(is_found(&server, &anchor, &[format!("DELETE FROM audit WHERE seq >= {seq}")]).await);
        }
        assert_eq!(found, 4 * TRIES);
    })
    .await;
}

#[tokio::test]
async fn entries_that_come_side_by_side_stand_one_after_another() {
    on_both(|server| async move {
        let detail = json!({});
        let each = (0..50).map(|n| {
            let (control, detail) = (server.control.clone(), detail.clone());
            tokio::spawn(async move { control.audit_as("ada", "x", &n.to_string(), detail).await })
        });
        futures::future::join_all(each).await;
        let anchor = server.control.anchor().unwrap();
        assert_eq!(anchor.seq, 50);
        assert_eq!(server.control.store.verify_audit(Some(&anchor)).await.unwrap(), None);
    })
    .await;
}
