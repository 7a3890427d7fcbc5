//! A guest that makes connections by itself, which no skill may.
#![cfg(target_os = "wasi")]

use clawhold_skill::skill;

/// Connects to an address.
#[skill(name = "sockets.connect")]
fn connect(address: String) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}
