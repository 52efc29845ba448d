//! Tickets: who has one may fetch one thing. A use is a machine: one that has used a ticket may go on with it, and come again.

use p2p_protocol::{
    FileId, PeerId,
    control::TicketInfo,
    limits::{MAX_TICKETS, MAX_WRONG_CLAIMS},
    token::{Binding, ClaimId, ClaimKey, Proof},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Catalog, StoreError};

/// What a peer says to have.
#[derive(Clone, Debug)]
pub(crate) struct TicketClaim {
    /// Which ticket.
    pub(crate) id: ClaimId,
    pub(crate) proof: Proof,
    pub(crate) binding: Binding,
    /// What it asks for.
    pub(crate) file_id: FileId,
    pub(crate) now_ms: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TicketVerdict {
    /// The peer may fetch.
    Good,
    /// There is no such ticket for this, or it is used up or expired.
    Closed,
    /// The proof is wrong.
    Wrong,
}

impl Catalog {
    /// Adds a ticket: its number. `None` where there are too many.
    pub(crate) fn put_ticket(
        &self,
        id: ClaimId,
        key: &ClaimKey,
        ticket: TicketInfo,
    ) -> Result<Option<u64>, StoreError> {
        let key = key.to_hex();
        self.ask(move |database| {
            let TicketInfo { number: _, file_id, uses, used: _, created_ms, expires_ms } = ticket;
            prune(&database.connection, created_ms)?;
            let query = "SELECT count(*) FROM tickets";
            let there: i64 = database.connection.query_row(query, [], |row| row.get(0))?;
            if there >= MAX_TICKETS as i64 {
                return Ok(None);
            }
            database.connection.execute(
                "INSERT INTO tickets (claim, key, file_id, uses, created_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![id.0, key, file_id.0, uses, created_ms.cast_signed(), expires_ms.map(u64::cast_signed)],
            )?;
            Ok(Some(database.connection.last_insert_rowid().cast_unsigned()))
        })
    }

    /// All tickets that hold, the oldest first.
    pub(crate) fn tickets(&self, now_ms: u64) -> Result<Vec<TicketInfo>, StoreError> {
        self.ask(move |database| {
            prune(&database.connection, now_ms)?;
            let mut query = database.connection.prepare_cached(
                "SELECT number, file_id, uses, (SELECT count(*) FROM ticket_uses WHERE ticket = number), created_ms, \
                 expires_ms FROM tickets ORDER BY number",
            )?;
            let parse = |row: &Row<'_>| {
                Ok(TicketInfo {
                    number: row.get(0).map(i64::cast_unsigned)?,
                    file_id: FileId(row.get(1)?),
                    uses: row.get(2)?,
                    used: row.get(3)?,
                    created_ms: row.get(4).map(i64::cast_unsigned)?,
                    expires_ms: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
                })
            };
            query.query_map([], parse)?.collect()
        })
    }

    /// Whether a stranger may have a ticket.
    pub(crate) fn has_ticket(&self, now_ms: u64) -> Result<bool, StoreError> {
        self.ask(move |database| {
            let query = "SELECT EXISTS (SELECT 1 FROM tickets WHERE expires_ms IS NULL OR expires_ms > ?1)";
            database.connection.query_row(query, [now_ms.cast_signed()], |row| row.get(0))
        })
    }

    /// Takes a ticket back: which one it was, if there was one.
    pub(crate) fn remove_ticket(&self, number: u64) -> Result<Option<ClaimId>, StoreError> {
        self.ask(move |database| {
            let query = "DELETE FROM tickets WHERE number = ?1 RETURNING claim";
            let read = |row: &Row<'_>| row.get(0).map(ClaimId);
            let found = database.connection.query_row(query, [number.cast_signed()], read).optional()?;
            sweep(&database.connection)?;
            Ok(found)
        })
    }

    /// Judges a claim, and counts it where it is another machine's.
    pub(crate) fn claim_ticket(&self, claim: TicketClaim) -> Result<TicketVerdict, StoreError> {
        self.ask(move |database| judge(&database.connection, &claim))
    }
}

/// What the catalog keeps of a ticket, for a claim.
struct Kept {
    number: i64,
    key: String,
    uses: Option<u32>,
    wrong: u32,
}

fn judge(connection: &Connection, claim: &TicketClaim) -> rusqlite::Result<TicketVerdict> {
    let mut query = connection.prepare_cached(
        "SELECT number, key, uses, wrong FROM tickets \
         WHERE claim = ?1 AND file_id = ?2 AND (expires_ms IS NULL OR expires_ms > ?3)",
    )?;
    let parse = |row: &Row<'_>| {
        Ok(Kept { number: row.get(0)?, key: row.get(1)?, uses: row.get(2)?, wrong: row.get(3)? })
    };
    let found = query
        .query_row(params![claim.id.0, claim.file_id.0, claim.now_ms.cast_signed()], parse)
        .optional()?;
    let Some(Kept { number, key, uses, wrong }) = found else { return Ok(TicketVerdict::Closed) };
    if !ClaimKey::from_hex(&key).is_some_and(|key| key.accepts(&claim.proof, &claim.binding)) {
        if wrong + 1 >= MAX_WRONG_CLAIMS {
            connection.execute("DELETE FROM tickets WHERE number = ?1", [number])?;
            sweep(connection)?;
        } else {
            connection.execute("UPDATE tickets SET wrong = wrong + 1 WHERE number = ?1", [number])?;
        }
        return Ok(TicketVerdict::Wrong);
    }
    let PeerId(peer) = claim.binding.holder;
    let was_here = "SELECT EXISTS (SELECT 1 FROM ticket_uses WHERE ticket = ?1 AND peer = ?2)";
    if connection.query_row(was_here, params![number, peer], |row| row.get(0))? {
        return Ok(TicketVerdict::Good);
    }
    let used: u32 =
        connection
            .query_row("SELECT count(*) FROM ticket_uses WHERE ticket = ?1", [number], |row| row.get(0))?;
    if uses.is_some_and(|uses| used >= uses) {
        return Ok(TicketVerdict::Closed);
    }
    connection.execute("INSERT INTO ticket_uses (ticket, peer) VALUES (?1, ?2)", params![number, peer])?;
    Ok(TicketVerdict::Good)
}

/// Takes the tickets of a share that is taken back.
pub(super) fn forget_file(connection: &Connection, id: FileId) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM tickets WHERE file_id = ?1", [id.0])?;
    sweep(connection)
}

fn prune(connection: &Connection, now_ms: u64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM tickets WHERE expires_ms <= ?1", [now_ms.cast_signed()])?;
    sweep(connection)
}

fn sweep(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM ticket_uses WHERE ticket NOT IN (SELECT number FROM tickets)", [])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use p2p_protocol::token::{Grant, Secret};

    use super::*;
    use crate::{disk::System, store::layout::Home};

    const OWN: PeerId = PeerId([1; 32]);
    const FILE: FileId = FileId([2; 32]);
    const NOW: u64 = 1_800_000_000_000;

    fn open(folder: &tempfile::TempDir) -> Catalog {
        Catalog::open(&Home::new(folder.path()), Arc::new(System)).unwrap()
    }

    fn make(catalog: &Catalog, secret: u8, uses: Option<u32>, expires_ms: Option<u64>) -> u64 {
        let secret = Secret::new([secret; 16]);
        let ticket = TicketInfo { number: 0, file_id: FILE, uses, used: 0, created_ms: NOW, expires_ms };
        catalog.put_ticket(secret.id(), &secret.key(Grant::Fetch(FILE)), ticket).unwrap().unwrap()
    }

    fn claim(secret: u8, holder: u8) -> TicketClaim {
        let secret = Secret::new([secret; 16]);
        let binding = Binding { exporter: [9; 32], holder: PeerId([holder; 32]), giver: OWN };
        let proof = secret.key(Grant::Fetch(FILE)).prove(&binding);
        TicketClaim { id: secret.id(), proof, binding, file_id: FILE, now_ms: NOW }
    }

    #[test]
    fn a_ticket_is_for_so_many_machines_however_often_each_comes() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = open(&folder);
        let number = make(&catalog, 5, Some(2), None);
        let of = |catalog: &Catalog, holder| catalog.claim_ticket(claim(5, holder)).unwrap();
        for holder in [10, 10, 11, 10, 11] {
            assert_eq!(of(&catalog, holder), TicketVerdict::Good);
        }
        assert_eq!(of(&catalog, 12), TicketVerdict::Closed);
        drop(catalog);
        let catalog = open(&folder);
        assert_eq!((of(&catalog, 12), of(&catalog, 11)), (TicketVerdict::Closed, TicketVerdict::Good));
        let listed = &catalog.tickets(NOW).unwrap()[0];
        assert_eq!((listed.number, listed.uses, listed.used), (number, Some(2), 2));
        make(&catalog, 6, None, None);
        for holder in 10..40 {
            assert_eq!(catalog.claim_ticket(claim(6, holder)).unwrap(), TicketVerdict::Good);
        }
        assert!(catalog.remove_ticket(number).unwrap().is_some());
        assert_eq!(catalog.remove_ticket(number).unwrap(), None);
        assert_eq!(of(&catalog, 11), TicketVerdict::Closed);
    }

    #[test]
    fn so_many_tickets_hold_at_a_time_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = open(&folder);
        // All but one, at once.
        let others = "WITH RECURSIVE n(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
            INSERT INTO tickets (claim, key, file_id, created_ms, expires_ms)
            SELECT randomblob(16), '', randomblob(32), 0, ?2 FROM n";
        let fill = move |database: &mut crate::store::catalog::Database| {
            database.connection.execute(others, params![MAX_TICKETS as i64, NOW.cast_signed() + 10])
        };
        assert_eq!(catalog.ask(fill).unwrap(), MAX_TICKETS - 1);
        make(&catalog, 5, None, None);
        let secret = Secret::new([6; 16]);
        let one_more = |created_ms| {
            let ticket =
                TicketInfo { number: 0, file_id: FILE, uses: None, used: 0, created_ms, expires_ms: None };
            catalog.put_ticket(secret.id(), &secret.key(Grant::Fetch(FILE)), ticket).unwrap()
        };
        assert_eq!(one_more(NOW), None);
        assert!(one_more(NOW + 10).is_some(), "those that have expired make room");
    }

    #[test]
    fn time_guesses_and_the_share_s_end_end_it() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = open(&folder);
        make(&catalog, 5, None, Some(NOW + 10));
        let at = |now_ms| catalog.claim_ticket(TicketClaim { now_ms, ..claim(5, 10) }).unwrap();
        assert_eq!((at(NOW + 9), at(NOW + 10)), (TicketVerdict::Good, TicketVerdict::Closed));
        assert!(catalog.has_ticket(NOW + 9).unwrap() && !catalog.has_ticket(NOW + 10).unwrap());
        assert!(catalog.tickets(NOW + 10).unwrap().is_empty());

        make(&catalog, 6, None, None);
        let other = TicketClaim { file_id: FileId([3; 32]), ..claim(6, 10) };
        assert_eq!(catalog.claim_ticket(other).unwrap(), TicketVerdict::Closed, "of another file");
        let wrong = TicketClaim { proof: Proof([0; 32]), ..claim(6, 10) };
        for _ in 0..MAX_WRONG_CLAIMS {
            assert_eq!(catalog.claim_ticket(wrong.clone()).unwrap(), TicketVerdict::Wrong);
        }
        assert_eq!(catalog.claim_ticket(claim(6, 10)).unwrap(), TicketVerdict::Closed);

        make(&catalog, 7, None, None);
        assert!(!catalog.remove_share(FILE).unwrap());
        assert_eq!(catalog.claim_ticket(claim(7, 10)).unwrap(), TicketVerdict::Closed);
    }
}
