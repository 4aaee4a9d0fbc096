//! Prints the OpenAPI document of the HTTP interface: `cargo run -p control --example openapi`.
#![allow(clippy::print_stdout)]

fn main() -> Result<(), serde_json::Error> {
    println!("{}", serde_json::to_string_pretty(&control::api::document())?);
    Ok(())
}
