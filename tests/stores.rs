//! The program on object stores that it reaches over the network: real servers on loopback.
//!
//! Not here: the servers ([`crate::servers`]), what each store must do (`ledger-store`'s conformance suite).

use crate::servers::Server;

#[test]
fn servers_start_and_stop() {
    for server in [Server::s3(), Server::azure()].into_iter().flatten() {
        assert!(server.url.ends_with("://ledgers") && server.environment.len() > 3 && server.process_id() > 0);
    }
}
