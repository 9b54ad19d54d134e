//! Clients that send much and read little. The server answers every message, serves other clients
//! meanwhile, and stays within its memory limit. The tests count messages and do not measure time.

mod client;
mod fair;
mod flood;
mod limits;
#[path = "../interop/serve.rs"]
mod serve;
#[path = "../interop/server.rs"]
mod server;
