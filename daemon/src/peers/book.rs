//! Who is known, what they may do, and whether a key is the right one: decisions without a disk.

use std::{collections::BTreeMap, net::IpAddr};

use p2p_protocol::{
    PeerId,
    control::KeyPolicy,
    limits::{MAX_PEER_ADDRESSES, MAX_PEER_NAME_LEN},
    policy::Rights,
    rules::Rules,
};

use super::{
    KeyError,
    invitations::Invitations,
    target::{Place, Target},
};

/// Most that is taken of a name that a peer would like to have, so that there is room for a number.
const MAX_WISHED_NAME_LEN: usize = 48;

/// The peers and the pins of one home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    pub(super) peers: BTreeMap<PeerId, Entry>,
    /// The key that was found at a place when it was dialled.
    pub(super) pins: BTreeMap<Place, PeerId>,
    pub(super) invitations: Invitations,
    /// The number of the latest invitation, which may be gone: none is given twice.
    pub(super) last_invitation: u64,
    /// Keys that peers had before, and which they have now.
    pub(super) succeeded: BTreeMap<PeerId, PeerId>,
}

/// What is known of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Option<String>,
    pub(super) rights: Rights,
    /// Where it can be dialled, the place that was of use last first.
    pub(super) addresses: Vec<Place>,
    /// What the owner has settled for it.
    pub(super) rules: Rules,
}

impl Entry {
    pub(super) fn is_trusted(&self) -> bool {
        self.rights.send || self.rights.fetch
    }

    /// Puts an address in front.
    pub(super) fn prefer(&mut self, place: Place) {
        self.addresses.retain(|known| *known != place);
        self.addresses.insert(0, place);
        self.addresses.truncate(MAX_PEER_ADDRESSES);
    }

    /// Adds an address behind all others, if it is new and there is room.
    pub(super) fn hint(&mut self, place: Place) {
        if self.addresses.len() < MAX_PEER_ADDRESSES && !self.addresses.contains(&place) {
            self.addresses.push(place);
        }
    }
}

/// What a right key changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// The peer becomes known.
    Know,
    /// The key is pinned at the target.
    Pin,
}

impl Book {
    /// A peer by its name, in whatever case, or by its Peer ID.
    pub(super) fn find(&self, text: &str) -> Option<PeerId> {
        match parse_id(text) {
            Some(id) => Some(self.current(id)).filter(|id| self.peers.contains_key(id)),
            None => self.named(text),
        }
    }

    /// A peer by its name, in whatever case.
    pub(super) fn named(&self, name: &str) -> Option<PeerId> {
        let name = name.to_lowercase();
        let is_it = |entry: &Entry| entry.name.as_ref().is_some_and(|known| known.to_lowercase() == name);
        self.peers.iter().find(|(_, entry)| is_it(entry)).map(|(id, _)| *id)
    }

    pub(super) fn is_trusted(&self, id: &PeerId) -> bool {
        self.peers.get(id).is_some_and(Entry::is_trusted)
    }

    /// Whether the key found at a target is the one that was meant.
    ///
    /// ```text
    ///     meant             Known            AcceptNew   Exactly(found)  Exactly(other)
    ///     name or ID: it    fine             fine        fine            wrong
    ///     name or ID: not   wrong            wrong       wrong           wrong
    ///     pinned: it        fine             fine        fine            wrong
    ///     pinned: not       changed          changed     pin             wrong
    ///     not pinned        pin if trusted,  pin         pin             wrong
    ///                       else unknown
    /// ```
    pub(super) fn judge(
        &self,
        target: &Target,
        found: PeerId,
        policy: KeyPolicy,
    ) -> Result<Verdict, KeyError> {
        let typed = || target.typed.clone();
        let wrong = |meant| KeyError::WrongPeer { target: typed(), meant, found };
        if let KeyPolicy::Exactly(meant) = policy
            && meant != found
        {
            return Err(wrong(meant));
        }
        if target.is_name_or_id {
            return match target.expected {
                Some(meant) if meant != found => Err(wrong(meant)),
                Some(_) if self.peers.contains_key(&found) => Ok(Verdict::Fine),
                Some(_) => Ok(Verdict::Know),
                None => Err(KeyError::Unknown { target: typed(), found }),
            };
        }
        let pinned = target.places.first().and_then(|place| self.pins.get(place));
        match (pinned, policy) {
            (Some(pinned), _) if *pinned == found => Ok(Verdict::Fine),
            (_, KeyPolicy::Exactly(_)) | (None, KeyPolicy::AcceptNew) => Ok(Verdict::Pin),
            (Some(pinned), KeyPolicy::Known | KeyPolicy::AcceptNew) => {
                Err(KeyError::Changed { target: typed(), pinned: *pinned, found })
            }
            (None, KeyPolicy::Known) if self.is_trusted(&found) => Ok(Verdict::Pin),
            (None, KeyPolicy::Known) => Err(KeyError::Unknown { target: typed(), found }),
        }
    }

    /// Carries a verdict out.
    pub(super) fn apply(&mut self, verdict: Verdict, target: &Target, found: PeerId) {
        if verdict == Verdict::Fine {
            return;
        }
        self.peers.entry(found).or_default();
        if verdict == Verdict::Pin
            && let Some(place) = target.places.first()
        {
            self.pins.insert(place.clone(), found);
        }
    }

    /// Removes a peer, every pin of its key, and the invitations that it has used, by which it could come back.
    pub(super) fn forget(&mut self, id: &PeerId) {
        self.peers.remove(id);
        self.pins.retain(|_, pinned| pinned != id);
        self.invitations.forget(id);
        self.succeeded.retain(|_, now| now != id);
    }

    /// A name for a peer that would like to be called so. What it says is made one that means nothing else here: no name of another
    /// peer, and no host at which another one was found, or it could have what is meant for that.
    pub(super) fn name_for(&self, id: &PeerId, wish: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
        // Only the first part of a host's full name.
        let first = wish.split('.').next().unwrap_or_default();
        let name: String = first.chars().take(MAX_WISHED_NAME_LEN).map(plain).collect();
        let name = name.trim_start_matches(['-', '_']);
        let name = if check_name(name).is_ok() { name } else { "peer" };
        let is_free = |name: &str| {
            let is_host =
                |(place, pinned): (&Place, &PeerId)| place.host.eq_ignore_ascii_case(name) && pinned != id;
            self.named(name).is_none_or(|other| other == *id)
                && !name.eq_ignore_ascii_case("localhost")
                && !self.pins.iter().any(is_host)
        };
        let numbered = (2u32..).map(|n| format!("{name}-{n}"));
        std::iter::once(name.to_owned()).chain(numbered).find(|name| is_free(name)).unwrap_or_default()
    }
}

/// A Peer ID in whatever case it was pasted.
pub(super) fn parse_id(text: &str) -> Option<PeerId> {
    text.to_ascii_lowercase().parse().ok()
}

/// Why a peer cannot have a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameFault {
    /// Nothing, or too much.
    #[error("a peer's name has 1 to {MAX_PEER_NAME_LEN} bytes")]
    Length,
    /// A character that would make it look like something else.
    #[error("a peer's name has letters, digits, `-`, `_`, `.`, `@` and `+`, and not {0:?}")]
    Character(char),
    /// It would be taken for a flag.
    #[error("a peer's name begins with a letter or a digit")]
    Beginning,
    /// It would be taken for an address.
    #[error("a peer's name cannot be an IP address")]
    Address,
    /// It would be taken for another peer.
    #[error("a peer's name cannot be a Peer ID")]
    Id,
}

/// Whether a peer can be called so: nothing that a target could also mean, and one word in a shell.
pub(crate) fn check_name(name: &str) -> Result<(), NameFault> {
    if name.is_empty() || name.len() > MAX_PEER_NAME_LEN {
        return Err(NameFault::Length);
    }
    let foreign = |c: &char| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.' | '@' | '+');
    if let Some(c) = name.chars().find(foreign) {
        return Err(NameFault::Character(c));
    }
    if !name.starts_with(char::is_alphanumeric) {
        return Err(NameFault::Beginning);
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err(NameFault::Address);
    }
    if parse_id(name).is_some() {
        return Err(NameFault::Id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);
    const C: PeerId = PeerId([3; 32]);

    fn place(typed: &str) -> Place {
        Place::parse(typed).unwrap()
    }

    fn at(typed: &str) -> Target {
        Target { typed: typed.into(), places: vec![place(typed)], expected: None, is_name_or_id: false }
    }

    fn named(id: PeerId) -> Target {
        Target { typed: "bob".into(), places: vec![place("b")], expected: Some(id), is_name_or_id: true }
    }

    /// A is trusted, B is known and pinned at `pinned`, C is a stranger.
    fn book() -> Book {
        let trusted = Entry { rights: Rights { send: true, fetch: false }, ..Entry::default() };
        Book {
            peers: [(A, trusted), (B, Entry::default())].into(),
            pins: [(place("pinned"), B)].into(),
            ..Book::default()
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Outcome {
        Fine,
        Know,
        Pin,
        Unknown,
        Changed,
        Wrong(PeerId),
    }

    fn judge(target: &Target, found: PeerId, policy: KeyPolicy) -> Outcome {
        match book().judge(target, found, policy) {
            Ok(Verdict::Fine) => Outcome::Fine,
            Ok(Verdict::Know) => Outcome::Know,
            Ok(Verdict::Pin) => Outcome::Pin,
            Err(KeyError::Unknown { .. }) => Outcome::Unknown,
            Err(KeyError::Changed { pinned, .. }) => {
                assert_eq!(pinned, B);
                Outcome::Changed
            }
            Err(KeyError::WrongPeer { meant, .. }) => Outcome::Wrong(meant),
            Err(KeyError::File(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn every_key_at_every_target_under_every_policy() {
        use KeyPolicy::{AcceptNew, Exactly, Known};
        use Outcome::*;
        let table = [
            // A place that was never dialled: a trusted key needs no question, a merely known one does.
            (at("new"), A, Known, Pin),
            (at("new"), B, Known, Unknown),
            (at("new"), C, Known, Unknown),
            (at("new"), A, AcceptNew, Pin),
            (at("new"), B, AcceptNew, Pin),
            (at("new"), C, AcceptNew, Pin),
            (at("new"), C, Exactly(C), Pin),
            (at("new"), C, Exactly(A), Wrong(A)),
            (at("new"), A, Exactly(C), Wrong(C)),
            // A pinned place: its key, or a changed one. A trusted peer is not the one that was meant either.
            (at("pinned"), B, Known, Fine),
            (at("pinned"), B, AcceptNew, Fine),
            (at("pinned"), B, Exactly(B), Fine),
            (at("pinned"), B, Exactly(A), Wrong(A)),
            (at("pinned"), A, Known, Changed),
            (at("pinned"), A, AcceptNew, Changed),
            (at("pinned"), C, Known, Changed),
            (at("pinned"), C, AcceptNew, Changed),
            (at("pinned"), C, Exactly(C), Pin),
            (at("pinned"), C, Exactly(B), Wrong(B)),
            (at("PINNED"), B, Known, Fine),
            // Another port is another target.
            (at("pinned:1"), B, Known, Unknown),
            // A name or a Peer ID means one peer, whatever else is said.
            (named(A), A, Known, Fine),
            (named(B), B, Known, Fine),
            (named(C), C, Known, Know),
            (named(A), A, AcceptNew, Fine),
            (named(A), A, Exactly(A), Fine),
            (named(A), A, Exactly(B), Wrong(B)),
            (named(B), A, Known, Wrong(B)),
            (named(B), A, AcceptNew, Wrong(B)),
            (named(B), A, Exactly(A), Wrong(B)),
            (named(B), A, Exactly(B), Wrong(B)),
        ];
        for (target, found, policy, outcome) in table {
            assert_eq!(judge(&target, found, policy), outcome, "{target:?} {found:?} {policy:?}");
        }
    }

    #[test]
    fn a_pin_makes_its_peer_known_and_replaces_the_old_one() {
        let mut book = book();
        book.apply(Verdict::Pin, &at("pinned"), C);
        assert_eq!(book.pins, [(place("pinned"), C)].into());
        assert_eq!(book.peers[&C], Entry::default());
        assert!(!book.is_trusted(&C) && book.peers.contains_key(&B));
        book.forget(&C);
        assert!(book.pins.is_empty() && !book.peers.contains_key(&C));
    }

    #[test]
    fn addresses_are_few_and_the_useful_ones_first() {
        let mut entry = Entry::default();
        for n in 0..20 {
            entry.prefer(place(&format!("h{n}")));
        }
        assert_eq!(entry.addresses.len(), MAX_PEER_ADDRESSES);
        entry.hint(place("no-room"));
        entry.prefer(place("h15"));
        assert_eq!(entry.addresses[..3], [place("h15"), place("h19"), place("h18")]);
        assert_eq!(entry.addresses.len(), MAX_PEER_ADDRESSES);
    }

    #[test]
    fn a_name_that_a_peer_would_like_to_have_takes_nothing_from_another() {
        let mut book = book();
        book.peers.insert(A, Entry { name: Some("Bob".into()), ..Entry::default() });
        for (wish, name) in [
            ("laptop", "laptop"),
            ("laptop.example.org", "laptop"),
            ("Bob", "Bob-2"),
            ("pinned", "pinned-2"),
            ("PINNED.lan", "PINNED-2"),
            ("localhost", "localhost-2"),
            ("", "peer"),
            ("..", "peer"),
            ("--x", "x"),
            ("a b\u{202e}/c", "a-b--c"),
            ("bücher", "b-cher"),
            (&C.to_string(), &C.to_string()[..48]),
            (&"a".repeat(500), &"a".repeat(48)),
        ] {
            let given = book.name_for(&C, wish);
            assert_eq!(given, name, "{wish}");
            assert_eq!(check_name(&given), Ok(()));
        }
        assert_eq!(book.name_for(&A, "bob"), "bob");
        assert_eq!(book.name_for(&B, "pinned"), "pinned");
    }

    #[test]
    fn names_mean_nothing_else() {
        for name in ["bob", "Bob's".trim_end_matches("'s"), "nas-2", "zoë", "a@b.org", "1st", "日本"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for (name, fault) in [
            ("", NameFault::Length),
            (&"a".repeat(65), NameFault::Length),
            ("a b", NameFault::Character(' ')),
            ("a:1", NameFault::Character(':')),
            ("a/b", NameFault::Character('/')),
            ("a\u{1b}", NameFault::Character('\u{1b}')),
            ("a\u{202e}b", NameFault::Character('\u{202e}')),
            ("-a", NameFault::Beginning),
            ("192.0.2.1", NameFault::Address),
            (&A.to_string(), NameFault::Id),
            (&A.to_string().to_uppercase(), NameFault::Id),
        ] {
            assert_eq!(check_name(name), Err(fault), "{name}");
        }
    }
}
