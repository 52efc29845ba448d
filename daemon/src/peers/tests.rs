use std::{fs, os::unix::fs::PermissionsExt};

use super::*;
use crate::disk::System;

const A: PeerId = PeerId([1; 32]);
const B: PeerId = PeerId([2; 32]);
const STRANGER: PeerId = PeerId([9; 32]);

fn request(id: PeerId) -> TrustRequest {
    TrustRequest { id, name: None, address: None, send: true, fetch: true }
}

fn named(id: PeerId, name: &str, address: &str) -> TrustRequest {
    let address = Some(address.to_owned()).filter(|address| !address.is_empty());
    TrustRequest { name: Some(name.to_owned()), address, ..request(id) }
}

fn dial(peers: &Peers, typed: &str, found: PeerId, policy: KeyPolicy) -> Result<(), KeyError> {
    let target = peers.parse_target(typed).unwrap();
    peers.check_key(&target, found, policy)?;
    peers.remember_address(&found, &target, "192.0.2.1:4419".parse().unwrap());
    Ok(())
}

fn info(peers: &Peers, id: PeerId) -> PeerInfo {
    peers.list().into_iter().find(|peer| peer.id == id).unwrap()
}

fn load(home: &Path) -> Result<Peers, PeersError> {
    Peers::load(Arc::new(System), Workers::Threads, home)
}

fn new() -> (tempfile::TempDir, Peers) {
    let home = tempfile::tempdir().unwrap();
    let peers = load(home.path()).unwrap();
    (home, peers)
}

#[test]
fn a_pin_is_known_after_a_restart_and_gives_no_right() {
    let (home, peers) = new();
    assert!(matches!(dial(&peers, "Host.example", A, KeyPolicy::Known), Err(KeyError::Unknown { .. })));
    dial(&peers, "Host.example", A, KeyPolicy::AcceptNew).unwrap();
    let peers = load(home.path()).unwrap();
    assert!(!peers.is_trusted(&A) && peers.rights(&A) == Rights::default());
    let known = info(&peers, A);
    assert_eq!((known.standing, known.addresses), (Standing::Known, vec!["host.example:4419".to_owned()]));
    assert_eq!(peers.parse_target("HOST.example:4419").unwrap().expected, Some(A));
    dial(&peers, "host.example", A, KeyPolicy::Known).unwrap();
    let error = dial(&peers, "host.example", B, KeyPolicy::AcceptNew).unwrap_err();
    assert!(matches!(error, KeyError::Changed { pinned: A, found: B, .. }));
    let message = error.to_string();
    for part in [A.to_string(), B.to_string(), format!("--peer {B}")] {
        assert!(message.contains(&part), "{message}");
    }
    dial(&peers, "host.example", B, KeyPolicy::Exactly(B)).unwrap();
    assert!(matches!(dial(&peers, "host.example", A, KeyPolicy::Known), Err(KeyError::Changed { .. })));
}

/// Fault 73.
#[test]
fn a_trusted_peer_answers_at_a_new_address_but_not_for_another() {
    let (_home, peers) = new();
    peers.trust(request(A)).unwrap();
    dial(&peers, "b.example", B, KeyPolicy::AcceptNew).unwrap();
    dial(&peers, "a.example", A, KeyPolicy::Known).unwrap();
    assert!(matches!(dial(&peers, "b.example", A, KeyPolicy::Known), Err(KeyError::Changed { .. })));
    assert!(matches!(dial(&peers, "a.example", B, KeyPolicy::AcceptNew), Err(KeyError::Changed { .. })));
}

#[test]
fn names_and_ids_are_targets_once_their_address_is_known() {
    let (_home, peers) = new();
    let error = peers.parse_target(&A.to_string()).unwrap_err();
    assert!(error.is_unknown_peer());
    assert!(error.to_string().contains(&format!("`p2p peers trust {A} --address host:port`")), "{error}");
    assert!(!peers.parse_target("::1:4419").unwrap_err().is_unknown_peer());

    peers.trust(named(A, "Bob", "")).unwrap();
    assert!(peers.parse_target("bob").unwrap_err().is_unknown_peer());
    peers.trust(named(A, "Bob", "[::1]:5")).unwrap();
    let place = Place { host: "::1".to_owned(), port: 5 };
    for typed in ["bob", "Bob", &A.to_string(), &A.to_string().to_uppercase()] {
        let target = peers.parse_target(typed).unwrap();
        assert!(target.is_name_or_id && target.expected == Some(A), "{target:?}");
        assert_eq!((target.places, target.typed.as_str()), (vec![place.clone()], typed));
    }
    let error = dial(&peers, "bob", B, KeyPolicy::AcceptNew).unwrap_err();
    assert!(matches!(error, KeyError::WrongPeer { meant: A, found: B, .. }), "{error}");
    let host = peers.parse_target("bob:4419").unwrap();
    assert!(!host.is_name_or_id && host.expected.is_none());
}

#[test]
fn a_target_that_was_reached_is_remembered_and_the_last_comes_first() {
    let (home, peers) = new();
    peers.trust(named(A, "bob", "given.example:1")).unwrap();
    dial(&peers, "found.example", A, KeyPolicy::Known).unwrap();
    assert_eq!(info(&peers, A).addresses, ["found.example:4419", "given.example:1"]);
    peers.trust(named(A, "bob", "192.0.2.1:4419")).unwrap();
    dial(&peers, "given.example:1", A, KeyPolicy::Known).unwrap();
    assert_eq!(info(&peers, A).addresses[0], "given.example:1");
    // By name, what answered was 192.0.2.1:4419.
    dial(&peers, "bob", A, KeyPolicy::Known).unwrap();
    let peers = load(home.path()).unwrap();
    assert_eq!(info(&peers, A).addresses, ["192.0.2.1:4419", "given.example:1", "found.example:4419"]);
}

#[test]
fn trust_gives_exactly_the_rights_it_names() {
    let (home, peers) = new();
    peers.trust(TrustRequest { send: false, ..named(A, "bob", "h:1") }).unwrap();
    assert_eq!(peers.rights(&A), Rights { send: false, fetch: true });
    peers.trust(TrustRequest { fetch: false, ..request(A) }).unwrap();
    let peers = load(home.path()).unwrap();
    assert_eq!(peers.rights(&A), Rights { send: true, fetch: false });
    let bob = info(&peers, A);
    assert_eq!((bob.standing, bob.name.as_deref()), (Standing::Trusted, Some("bob")));
    assert_eq!((bob.send, bob.fetch, bob.addresses), (true, false, vec!["h:1".to_owned()]));
    let nothing = TrustRequest { send: false, fetch: false, ..request(A) };
    assert!(matches!(peers.trust(nothing), Err(PeersError::NoRight)));
}

#[test]
fn what_trust_cannot_take_changes_nothing() {
    let (_home, peers) = new();
    peers.trust(named(A, "bob", "")).unwrap();
    for (request, failure) in [
        (named(B, "BOB", ""), Failure::Conflict),
        (named(B, "a b", ""), Failure::Usage),
        (named(B, "192.0.2.1", ""), Failure::Usage),
        (named(B, "eve", "::1:4419"), Failure::Usage),
        (named(B, "eve", "h:0"), Failure::Usage),
    ] {
        assert_eq!(peers.trust(request).unwrap_err().failure(), failure);
    }
    assert_eq!(peers.list().len(), 1);
    peers.trust(named(A, "Bob", "")).unwrap();
    assert_eq!(peers.name_of(&A).as_deref(), Some("Bob"));
}

#[test]
fn forgetting_takes_everything_back() {
    let (home, peers) = new();
    peers.trust(named(A, "bob", "h:1")).unwrap();
    dial(&peers, "found.example", A, KeyPolicy::Known).unwrap();
    assert_eq!(peers.forget("nobody").unwrap(), None);
    assert_eq!(peers.forget(&B.to_string()).unwrap(), None);
    assert_eq!(peers.forget("BOB").unwrap(), Some(A));
    for peers in [&peers, &load(home.path()).unwrap()] {
        assert!(!peers.is_trusted(&A) && peers.list().is_empty() && peers.find("bob").is_none());
        assert_eq!(peers.parse_target("found.example").unwrap().expected, None);
    }
    assert!(matches!(dial(&peers, "found.example", A, KeyPolicy::Known), Err(KeyError::Unknown { .. })));
}

#[test]
fn strangers_are_listed_until_their_owner_decides() {
    let (home, peers) = new();
    peers.note_pending(&STRANGER, "[::ffff:192.0.2.9]:77".parse().unwrap());
    peers.note_pending(&B, "192.0.2.2:77".parse().unwrap());
    let pending: Vec<_> = peers.list().into_iter().map(|peer| (peer.id, peer.standing)).collect();
    assert_eq!(pending, [(B, Standing::Pending), (STRANGER, Standing::Pending)]);
    assert_eq!(info(&peers, STRANGER).addresses, ["192.0.2.9:77"]);
    assert!(!peers.is_trusted(&STRANGER));
    assert_eq!(peers.find(&STRANGER.to_string()), Some(STRANGER));

    peers.flush().unwrap();
    let peers = load(home.path()).unwrap();
    assert_eq!(peers.list().len(), 2);
    peers.trust(request(STRANGER)).unwrap();
    let trusted = info(&peers, STRANGER);
    assert_eq!((trusted.standing, trusted.addresses), (Standing::Trusted, vec!["192.0.2.9:77".to_owned()]));
    assert_eq!(peers.forget(&B.to_string()).unwrap(), Some(B));
    peers.note_pending(&STRANGER, "192.0.2.7:1".parse().unwrap());
    let peers = load(home.path()).unwrap();
    assert_eq!(peers.list().len(), 1);
}

#[test]
fn if_the_disk_says_no_nothing_has_happened() {
    let (home, peers) = new();
    peers.trust(named(A, "bob", "")).unwrap();
    // A folder in the way of the new file makes every write fail, for root too.
    fs::create_dir(home.path().join("peers.toml.new")).unwrap();
    assert_eq!(peers.trust(request(B)).unwrap_err().failure(), Failure::Storage);
    assert!(!peers.is_trusted(&B));
    let error = dial(&peers, "h.example", B, KeyPolicy::AcceptNew).unwrap_err();
    assert!(matches!(error, KeyError::File(_)));
    assert_eq!(peers.parse_target("h.example").unwrap().expected, None);
    assert!(peers.forget("bob").is_err() && peers.is_trusted(&A));
    fs::remove_dir(home.path().join("peers.toml.new")).unwrap();
    peers.trust(request(B)).unwrap();
    assert!(load(home.path()).unwrap().is_trusted(&B));
}

#[test]
fn trust_is_durable_before_it_is_given_or_taken() {
    let home = tempfile::tempdir().unwrap();
    let disk = Arc::new(crate::disk::Noting::default());
    let peers = Peers::load(disk.clone(), Workers::Threads, home.path()).unwrap();
    let in_order = ["written", "synced", "named", "folder synced"];
    peers.trust(request(A)).unwrap();
    assert_eq!(disk.noted(), in_order);
    peers.forget(&A.to_string()).unwrap();
    assert_eq!(disk.noted(), in_order);
}

/// Fault 76.
#[test]
fn a_damaged_file_trusts_nobody() {
    let (home, peers) = new();
    peers.trust(request(A)).unwrap();
    let path = home.path().join("peers.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("allow", "alow")).unwrap();
    assert!(matches!(load(home.path()), Err(PeersError::Damaged { .. })));
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(load(home.path()), Err(PeersError::Exposed { .. })));
}

#[tokio::test]
async fn on_the_network_tasks_only_what_decides_waits_for_the_disk() {
    let (home, peers) = new();
    dial(&peers, "h.example", A, KeyPolicy::AcceptNew).unwrap();
    peers.note_pending(&STRANGER, "192.0.2.9:77".parse().unwrap());
    assert_eq!(info(&peers, STRANGER).standing, Standing::Pending);
    let pinned = load(home.path()).unwrap();
    assert_eq!(pinned.parse_target("h.example").unwrap().expected, Some(A));
}

#[test]
fn many_threads_lose_no_change() {
    let (home, peers) = new();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let peers = &peers;
            scope.spawn(move || {
                for n in 0..10u8 {
                    peers.trust(named(PeerId([thread * 10 + n; 32]), &format!("p{thread}-{n}"), "")).unwrap();
                    peers.note_pending(&PeerId([100 + thread * 10 + n; 32]), "192.0.2.9:77".parse().unwrap());
                }
            });
        }
    });
    peers.flush().unwrap();
    let list = load(home.path()).unwrap().list();
    assert_eq!(list.iter().filter(|peer| peer.standing == Standing::Trusted).count(), 40);
    assert_eq!(list.iter().filter(|peer| peer.standing == Standing::Pending).count(), 40);
}
