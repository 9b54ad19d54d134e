//! Clients that say much and read little: the server answers all of it, serves the others
//! meanwhile, and keeps within its memory. Everything here is bounded by counts; nothing is timed.

mod client;
mod fair;
mod flood;
mod limits;
#[path = "../interop/serve.rs"]
mod serve;
#[path = "../interop/server.rs"]
mod server;
