//! Every bound of the system, in one place. Relations between them are checked at compile time.
//!
//! A peer can reach none of these by accident; reaching one is answered with a named refusal.

use std::time::Duration;

/// Smallest chunk, as a power of two of bytes (256 KiB). Providers keep chaining values at this size.
pub const MIN_CHUNK_LOG2: u8 = 18;
/// Largest chunk, as a power of two of bytes (4 MiB).
pub const MAX_CHUNK_LOG2: u8 = 22;
/// Bytes in the smallest chunk; the granularity of a stored chaining-value list.
pub const GROUP_LEN: u64 = 1 << MIN_CHUNK_LOG2;
/// Most bytes in one chunk, and so the largest buffer a chunk needs.
pub const MAX_CHUNK_LEN: u64 = 1 << MAX_CHUNK_LOG2;
/// Most chunks in one file.
pub const MAX_CHUNKS: u64 = 1 << 24;
/// Largest file.
pub const MAX_FILE_LEN: u64 = MAX_CHUNKS * MAX_CHUNK_LEN;
/// Chunks covered by one page of chaining values.
pub const PAGE_CHUNKS: u64 = 1 << 12;
/// Most pages of one file, and so the longest top-level list.
pub const MAX_PAGES: u64 = MAX_CHUNKS / PAGE_CHUNKS;
/// Bytes of one chaining value.
pub const CV_LEN: usize = 32;

/// Longest control-stream frame body, in bytes: one full page of chaining values and its header.
pub const MAX_FRAME_LEN: usize = PAGE_CHUNKS as usize * CV_LEN + 1024;
/// Longest first frame on a control stream, in bytes, accepted from a peer not yet known to be useful.
pub const MAX_FIRST_FRAME_LEN: usize = 4096;
/// Longest chunk header body, in bytes.
pub const MAX_CHUNK_HEADER_LEN: usize = 128 + MAX_PROOF_LEN * CV_LEN;
/// Most chaining values beside the way from a piece of a file to the root of its hash tree.
pub const MAX_PROOF_LEN: usize = 24;
/// Longest frame between the command line and its daemon, in bytes.
pub const MAX_CONTROL_FRAME_LEN: usize = 8 * 1024 * 1024;
/// Longest free text (a reason, a name of a thing) carried in a message, in bytes.
pub const MAX_TEXT_LEN: usize = 512;
/// Longest file name, in bytes of UTF-8.
pub const MAX_NAME_LEN: usize = 255;
/// Most entries of one folder, whatever is in it.
pub const MAX_ENTRIES: usize = 1 << 20;
/// Longest list of a folder's entries, in bytes, as it travels.
pub const MAX_MANIFEST_LEN: usize = 64 * 1024 * 1024;
/// Bytes of such a list in one message.
pub const MANIFEST_PART_LEN: usize = 128 * 1024;
/// Bytes of such lists that a daemon holds for its peers at once; in memory each takes some three times as much. Where there is
/// no room for another, its transfer waits.
pub const MANIFEST_BUDGET: u64 = MAX_MANIFEST_LEN as u64;
/// Chaining values of a folder's files that a receiver asks for before it accepts, for what it has of older versions of them: 64 GiB of
/// files.
pub const MAX_VALUES_ASKED: u64 = 1 << 18;
/// Longest path inside a folder, in bytes of UTF-8, and longest target of a symbolic link.
pub const MAX_PATH_LEN: usize = 4096;
/// Shares in one message.
pub const LIST_PAGE: usize = 256;
/// Shares of one peer that are listed in all.
pub const MAX_LISTED: usize = 1 << 20;
/// Most names in such a path.
pub const MAX_DEPTH: usize = 128;
/// Most things that are offered together, and that one word of an owner covers. More are several offers.
pub const MAX_BATCH: u32 = 1000;
/// How long an owner's word holds for what comes later.
pub const ANSWER_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most small files that share a chunk.
pub const MAX_FILES_PER_CHUNK: usize = 1024;
/// Most chunk ranges in one message.
pub const MAX_RANGES: usize = 2048;
/// Most page numbers asked for in one message.
pub const MAX_PAGES_ASKED: usize = 16;

/// Most chunk streams one transfer may have in flight.
pub const MAX_STREAMS_PER_TRANSFER: u32 = 64;
/// Most unidirectional streams a peer may have open on one connection. QUIC keeps a place for each, also while nothing
/// happens, which is half of what an idle connection costs.
pub const MAX_UNI_STREAMS: u32 = 128;
/// Most bidirectional streams, so most transfers, a peer may have open on one connection: what a table of 256 places takes.
pub const MAX_BIDI_STREAMS: u32 = 224;
/// Bytes of a file that an eager fetch asks for before it has seen the offer.
pub const EAGER_BYTES: u64 = MAX_CHUNK_LEN;
/// A source up to this long is hashed before it is offered: that takes a few milliseconds, and saves the receiver from
/// taking what it has already. A longer one whose File ID is not known is hashed while it is sent.
pub const HASH_FIRST_LEN: u64 = 8 * 1024 * 1024;
/// Most chunks of a file that is offered without File ID: its receiver keeps the value of each of them in memory until the
/// list has proven it, 32 MiB in all. A larger one is hashed first.
pub const MAX_UNSEALED_CHUNKS: u64 = MAX_CHUNKS / 16;
/// Chunks of a source that are hashed at once because its receiver has them already.
pub const HASHES_AT_ONCE: usize = 4;
/// Sources that were sent without a File ID, and that the hash cache did not take, which a daemon remembers.
pub const MAX_SENT_UNSEALED: usize = 1024;
/// Longest chunk that may come together with its offer, before that was taken.
pub const MAX_EARLY_LEN: u64 = GROUP_LEN;
/// Such chunks that one connection holds.
pub const MAX_EARLY_CHUNKS: usize = 8;
/// Small files whose delivery a daemon remembers, so as not to send them along with an offer again.
pub const MAX_DELIVERED: usize = 1024;
/// Bytes of wanted and not yet received chunks of one transfer.
pub const WANT_WINDOW: u64 = 64 * 1024 * 1024;
/// Most chunks that a provider lets a receiver have wanted and not yet sent.
pub const MAX_WANTED_CHUNKS: u64 = 2 * WANT_WINDOW / GROUP_LEN;
/// Pages of chaining values that a receiver holds or has asked for at once.
pub const PAGES_HELD: usize = 4;
/// Chunks of a partial that are hashed anew at once.
pub const RECHECKS_AT_ONCE: usize = 4;
/// Bytes of unverified chunk data that the whole daemon grants its peers at once.
pub const UNVERIFIED_BUDGET: u64 = 48 * 1024 * 1024;
/// Bytes of chunks that the whole daemon has read and not yet seen acknowledged by trusted peers …
pub const OUTGOING_BUDGET: u64 = 128 * 1024 * 1024;
/// … and by strangers, who fetch what is public.
pub const STRANGER_BUDGET: u64 = 16 * 1024 * 1024;
/// Bytes a peer may send on a connection before the application has read them. What was lost comes a round trip later, so
/// that twice what a path holds keeps it full: 450 Mbit/s at 300 ms. More would cost memory wherever a disk is slow.
pub const CONNECTION_WINDOW: u64 = 32 * 1024 * 1024;
/// The same before it is known who the peer is: a chunk that comes with its offer, and messages. A stranger's connection gets no more, nor
/// do those of a peer that has very many.
pub const FIRST_WINDOW: u64 = MAX_EARLY_LEN + 64 * 1024;
/// Connections of one peer that get the whole window …
pub const WIDE_CONNECTIONS_PER_PEER: usize = 4;
/// … and with them those that get this much at least.
pub const NARROW_CONNECTIONS_PER_PEER: usize = 32;
/// Bytes that a peer may send ahead on a connection that is neither among its first nor one of very many.
pub const NARROW_WINDOW: u64 = 4 * 1024 * 1024;
/// Bytes that all peers together may send ahead, beside the little that each connection may in any case, and what each peer may on its first.
pub const WINDOW_BUDGET: u64 = 512 * 1024 * 1024;
/// Bytes a peer may send on one stream before the application has read them.
pub const STREAM_WINDOW: u64 = MAX_CHUNK_LEN + 64 * 1024;
/// Bytes a connection keeps for retransmission.
pub const SEND_WINDOW: u64 = 32 * 1024 * 1024;
/// UDP socket buffers asked of the kernel, in bytes.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Most simultaneous connections.
pub const MAX_CONNECTIONS: usize = 2048;
/// Most simultaneous connections of peers that are not trusted here.
pub const MAX_STRANGER_CONNECTIONS: usize = 32;
/// Most requests one stranger's connection may make.
pub const MAX_STRANGER_REQUESTS: u32 = 16;
/// Most strangers remembered in the list of pending peers; the oldest goes first.
pub const MAX_PENDING_PEERS: usize = 256;
/// Most unfinished transfers at one daemon.
pub const MAX_JOBS: usize = 16 * 1024;
/// Most of them that run at a time to or from one target. The others wait their turn, which costs them no try.
pub const MAX_RUNNING_PER_TARGET: usize = 128;
/// Most that run at a time in all.
pub const MAX_RUNNING: usize = 1024;
/// Most that one peer brings at a time.
pub const MAX_INCOMING_PER_PEER: usize = 256;
/// Most transfers by which one peer fetches at a time.
pub const MAX_SERVED_PER_PEER: usize = 256;
/// Most unfinished transfers that one peer has sent here, so that it takes no more than a part of [`MAX_JOBS`].
pub const MAX_JOBS_PER_PEER: usize = MAX_JOBS / 8;
/// Most clients on the local socket.
pub const MAX_CONTROL_CLIENTS: usize = 256;
/// Most clients beyond those that are told so, and not just left out, at a time.
pub const MAX_CONTROL_REFUSALS: usize = 64;
/// Answers to one client of the local socket that wait to be written.
pub const CONTROL_QUEUE: usize = 8;
/// Addresses remembered with one peer; the one that was of use longest ago goes first.
pub const MAX_PEER_ADDRESSES: usize = 8;
/// Longest name of a peer, in bytes of UTF-8.
pub const MAX_PEER_NAME_LEN: usize = 64;

/// Old keys that a machine tells of.
pub const MAX_SUCCESSIONS: usize = 8;
/// Old keys of peers that are remembered.
pub const MAX_SUCCEEDED: usize = 4096;
/// Addresses in one token.
pub const MAX_TOKEN_ADDRESSES: usize = 6;
/// Longest text that is looked at as a token, in bytes.
pub const MAX_TOKEN_TEXT_LEN: usize = 4096;
/// Most invitations that are open at a time.
pub const MAX_INVITATIONS: usize = 64;
/// Longest time for which an invitation holds.
pub const MAX_INVITATION_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// An invitation that was made this much later than now, by a clock that was set back since, counts as expired.
pub const CLOCK_SLACK: Duration = Duration::from_secs(300);
/// Most tickets that hold at a time.
pub const MAX_TICKETS: usize = 1024;
/// Longest time that a ticket's expiry can be set to.
pub const MAX_TICKET_AGE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Wrong proofs for one invitation or ticket, after which it is void, and from one place, after which that is not listened to …
pub const MAX_WRONG_CLAIMS: u32 = 8;
/// … for this long.
pub const CLAIM_LOCKOUT: Duration = Duration::from_secs(600);
/// Places whose wrong proofs are remembered.
pub const MAX_THROTTLED: usize = 1024;

/// Most bytes of one measurement of the way to a peer, in one direction.
pub const MEASURE_LEN: u32 = 4 * 1024 * 1024;
/// Bytes of measurements that a daemon sends to one peer, and takes from it, …
pub const MEASURE_BUDGET: u64 = 16 * 1024 * 1024;
/// … within this time, over however many connections.
pub const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// A measurement ends within this, or comes to nothing.
pub const MEASURE_DEADLINE: Duration = Duration::from_secs(10);
/// Longest text that a peer may have as the version of its program, in bytes.
pub const MAX_VERSION_LEN: usize = 64;

/// Times one chunk may arrive bad, be cut short or fail, before the transfer gives up.
pub const MAX_CHUNK_FAILURES: u32 = 8;
/// Checkpoints that may fail one after the other before a transfer gives its disk up.
pub const MAX_FAILED_SYNCS: u32 = 8;
/// Chunks a provider may send without being asked before its connection is closed.
pub const MAX_UNASKED_CHUNKS: u32 = 64;

/// Least bandwidth that a limit leaves, in bytes per second: below it a chunk would pass for one that does not move.
pub const MIN_RATE: u64 = 1024;
/// What a limit lets through at once after a pause is what it lets through in this time.
pub const RATE_BURST: Duration = Duration::from_millis(100);
/// Bytes that are written to the network at once, so that a limit on bandwidth makes no bursts.
pub const PIECE_LEN: u64 = 64 * 1024;

/// A checkpoint window ends when this many bytes were written …
pub const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// … or when it has been open this long, whichever comes first.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// Disk space is reserved at most this far ahead of what is wanted, in bytes.
pub const RESERVE_AHEAD: u64 = 256 * 1024 * 1024;

/// The handshake must end within this.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(20);
/// A stream's first frame or header must be complete within this.
pub const FIRST_FRAME_DEADLINE: Duration = Duration::from_secs(30);
/// No byte of an open chunk for this long resets its stream.
pub const CHUNK_PROGRESS_DEADLINE: Duration = Duration::from_secs(60);
/// Neither a message nor `LEAST_PROGRESS` for this long, while something is owed, ends a conversation.
pub const TRANSFER_PROGRESS_DEADLINE: Duration = Duration::from_secs(120);
/// Bytes of chunks that a receiver takes for progress: 34 bytes a second, of a modem it would be a hundredth. Fewer come from who
/// wants to hold a place.
pub const LEAST_PROGRESS: u64 = 4096;
/// While a provider hashes and sends nothing, it says how far it is this often.
pub const HASHING_WORD: Duration = Duration::from_secs(10);
/// While the disk is full, its free space is looked at this often.
pub const SPACE_POLL: Duration = Duration::from_secs(1);
/// A connection without any packet for this long is dead.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Keep-alive packets go out this often; on a quiet connection a restarted peer is noticed within this.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// An outgoing connection that carries nothing is closed after this.
pub const POOL_IDLE: Duration = Duration::from_secs(120);
/// The preamble on the local socket must be complete within this.
pub const CONTROL_PREAMBLE_DEADLINE: Duration = Duration::from_secs(5);
/// The request on the local socket must be complete within this after the preamble.
pub const CONTROL_REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// A client that takes no byte of its answers for this long is gone. A pager at rest takes none either.
pub const CONTROL_PROGRESS_DEADLINE: Duration = Duration::from_secs(600);
/// Time a request has to come to its end after its client has gone.
pub const CONTROL_GRACE: Duration = Duration::from_secs(10);
/// The same, and the time a client has to take the rest of its answers, when the daemon shuts down.
pub const CONTROL_PARTING: Duration = Duration::from_secs(1);
/// Strangers are noted in the trust file at most this often.
pub const PENDING_SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// Time a shutdown has to store what was received.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// First pause before a failed transfer is tried again; it doubles up to `RETRY_MAX`.
pub const RETRY_MIN: Duration = Duration::from_millis(500);
/// Longest pause between two tries.
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// The same for a peer that is known and away: it is waited for, and not only so many times.
pub const AWAY_RETRY_MAX: Duration = Duration::from_secs(20);
/// A peer that has not answered a dial for this long is said to be away.
pub const SAID_AWAY: Duration = Duration::from_secs(3);
/// Tries without a single new chunk before a transfer that had started is reported as failed.
pub const MAX_FRUITLESS_TRIES: u32 = 8;
/// A hash-cache entry whose ctime is closer than this to its hashing is not believed.
pub const RACY_WINDOW: Duration = Duration::from_secs(2);

const _: () = {
    assert!(MAX_CHUNKS <= u32::MAX as u64, "a chunk index fits u32");
    assert!(MAX_CHUNKS.is_multiple_of(PAGE_CHUNKS));
    assert!(MAX_PAGES as usize * CV_LEN < MAX_FRAME_LEN, "the top level fits one frame");
    assert!(
        2 * MAX_RANGES * 8 + 64 < MAX_FRAME_LEN,
        "a full want fits one frame, and so does a full selection"
    );
    assert!(
        LIST_PAGE * (MAX_NAME_LEN + 64) + 64 < MAX_FRAME_LEN,
        "a part of a list of shares fits one frame"
    );
    assert!(MANIFEST_PART_LEN + 64 < MAX_FRAME_LEN, "a part of a manifest fits one frame");
    assert!(MAX_CHUNKS == 1 << MAX_PROOF_LEN, "a proof has a value for each level");
    assert!(MAX_ENTRIES <= u32::MAX as usize, "an entry's number fits u32");
    assert!(STREAM_WINDOW >= MAX_CHUNK_LEN, "a whole chunk fits its stream's window");
    assert!(CONNECTION_WINDOW >= 2 * MAX_CHUNK_LEN, "two transfers can each fill a chunk");
    assert!(UNVERIFIED_BUDGET >= 2 * MAX_CHUNK_LEN);
    assert!(STRANGER_BUDGET >= MAX_CHUNK_LEN && SEND_WINDOW >= MAX_CHUNK_LEN, "each can hold a chunk");
    assert!(WANT_WINDOW >= 2 * CONNECTION_WINDOW, "wants do not run out while credit is used up");
    assert!(PAGES_HELD < MAX_PAGES_ASKED);
    assert!(
        HASH_FIRST_LEN > MAX_CHUNK_LEN,
        "what is sent without a File ID has a list, whatever the chunk size"
    );
    assert!(HASHING_WORD.as_secs() * 4 < TRANSFER_PROGRESS_DEADLINE.as_secs());
    assert!(
        MAX_EARLY_CHUNKS as u64 * MAX_EARLY_LEN <= NARROW_WINDOW / 2 && FIRST_WINDOW > MAX_EARLY_LEN,
        "what is early holds nobody up"
    );
    assert!(FIRST_WINDOW < NARROW_WINDOW && NARROW_WINDOW < CONNECTION_WINDOW);
    assert!(WINDOW_BUDGET >= WIDE_CONNECTIONS_PER_PEER as u64 * CONNECTION_WINDOW);
    assert!(NARROW_CONNECTIONS_PER_PEER >= WIDE_CONNECTIONS_PER_PEER);
    assert!(MAX_UNI_STREAMS >= MAX_STREAMS_PER_TRANSFER);
    assert!(MAX_RUNNING_PER_TARGET <= MAX_RUNNING && MAX_RUNNING <= MAX_JOBS);
    assert!(MAX_RUNNING_PER_TARGET < MAX_BIDI_STREAMS as usize, "none that runs waits for a stream");
    assert!(MAX_RUNNING_PER_TARGET < MAX_INCOMING_PER_PEER, "none that runs is refused as one too many");
    assert!(MAX_INCOMING_PER_PEER < MAX_JOBS_PER_PEER);
    assert!(KEEP_ALIVE.as_millis() * 2 < IDLE_TIMEOUT.as_millis());
    assert!(RESERVE_AHEAD >= WANT_WINDOW);
    assert!(MAX_TOKEN_ADDRESSES <= MAX_PEER_ADDRESSES, "what a token says is remembered");
};

#[cfg(test)]
mod tests {
    use super::*;

    /// What another program of the protocol must keep to as well, and what bounds the daemon's memory.
    #[test]
    fn limits_are_the_numbers_that_the_documents_give() {
        const MIB: u64 = 1 << 20;
        assert_eq!((MAX_FILE_LEN, MAX_PAGES, MAX_CHUNKS), (64 << 40, 4096, 16_777_216));
        assert_eq!((MAX_FRAME_LEN, MAX_FIRST_FRAME_LEN, MAX_CHUNK_HEADER_LEN), (132_096, 4096, 896));
        assert_eq!((MAX_CONTROL_FRAME_LEN as u64, MAX_MANIFEST_LEN as u64), (8 * MIB, 64 * MIB));
        assert_eq!((MANIFEST_PART_LEN, MANIFEST_BUDGET), (131_072, 64 * MIB));
        assert_eq!((HASH_FIRST_LEN, MAX_UNSEALED_CHUNKS, MAX_WANTED_CHUNKS), (8 * MIB, 1 << 20, 512));
        assert_eq!((WANT_WINDOW, UNVERIFIED_BUDGET), (64 * MIB, 48 * MIB));
        assert_eq!((OUTGOING_BUDGET, STRANGER_BUDGET), (128 * MIB, 16 * MIB));
        assert_eq!((CONNECTION_WINDOW, SEND_WINDOW, NARROW_WINDOW), (32 * MIB, 32 * MIB, 4 * MIB));
        assert_eq!((FIRST_WINDOW, STREAM_WINDOW, WINDOW_BUDGET), (327_680, 4_259_840, 512 * MIB));
        assert_eq!((SOCKET_BUFFER as u64, MAX_JOBS, PIECE_LEN), (4 * MIB, 16_384, 65_536));
        assert_eq!((MAX_JOBS_PER_PEER, MAX_SERVED_PER_PEER), (2048, 256));
        assert_eq!((CHECKPOINT_BYTES, RESERVE_AHEAD), (64 * MIB, 256 * MIB));
    }
}
