use p2p_protocol::ChunkRange;

use super::*;

fn line(line: &Line<'_>) -> String {
    String::from_utf8(encode(line).unwrap()).unwrap()
}

#[test]
fn lines_are_those_of_the_contract() {
    let (peer, file_id) = (PeerId([1; 32]), FileId([2; 32]));
    let started = Line::Started {
        transfer: 7,
        direction: Direction::Send,
        name: "a.iso",
        peer,
        total_bytes: 1 << 30,
        resumed_bytes: 0,
        batch: None,
    };
    assert_eq!(
        line(&started),
        format!(
            "{{\"event\":\"started\",\"transfer\":7,\"direction\":\"send\",\"name\":\"a.iso\",\"peer\":\"{peer}\",\
             \"total_bytes\":1073741824,\"resumed_bytes\":0}}\n"
        )
    );
    assert_eq!(
        line(&Line::Waiting { transfer: 7, reason: Wait::Reason(WaitReason::Hashing) }),
        "{\"event\":\"waiting\",\"transfer\":7,\"reason\":\"hashing\"}\n"
    );
    assert_eq!(
        line(&Line::Waiting { transfer: 7, reason: Wait::Daemon(DaemonGone::Daemon) }),
        "{\"event\":\"waiting\",\"transfer\":7,\"reason\":\"daemon\"}\n"
    );
    let progress =
        Progress { verified_bytes: 4, total_bytes: 10, rate: 5, chunks_total: 3, ..Progress::default() };
    assert_eq!(
        line(&Line::Progress { transfer: 7, numbers: Numbers::from(&progress) }),
        "{\"event\":\"progress\",\"transfer\":7,\"verified_bytes\":4,\"total_bytes\":10,\"chunks_verified\":0,\
         \"chunks_total\":3,\"chunks_failed\":0,\"rate_bps\":5,\"streams\":0,\"mode\":\"sequential\",\"eta_s\":2,\"limited\":false,\"limited_by\":null}\n"
    );
    assert_eq!(
        line(&Line::ChunkFailed {
            transfer: 7,
            chunk: 12,
            peer,
            reason: chunk_failure(ChunkFailure::Corrupt)
        }),
        format!(
            "{{\"event\":\"chunk_failed\",\"transfer\":7,\"chunk\":12,\"peer\":\"{peer}\",\"reason\":\"corrupt\"}}\n"
        )
    );
    assert_eq!(
        line(&Line::Retrying { transfer: 7, attempt: 2, in_s: 1.5, reason: "gone" }),
        "{\"event\":\"retrying\",\"transfer\":7,\"attempt\":2,\"in_s\":1.5,\"reason\":\"gone\"}\n"
    );
    let done = Line::Done {
        transfer: 7,
        file_id,
        path: "a.iso",
        bytes: 9,
        moved_bytes: 4,
        seconds: 0.5,
        fetch: Some("p2p fetch x --from y"),
    };
    assert_eq!(
        line(&done),
        format!(
            "{{\"event\":\"done\",\"transfer\":7,\"file_id\":\"{file_id}\",\"path\":\"a.iso\",\"bytes\":9,\
             \"moved_bytes\":4,\"seconds\":0.5,\"fetch\":\"p2p fetch x --from y\"}}\n"
        )
    );
    let failed =
        Line::Failed { transfer: None, code: "refused", message: "no", exit_code: 5, hints: &[], key: None };
    assert_eq!(
        line(&failed),
        "{\"event\":\"failed\",\"transfer\":null,\"code\":\"refused\",\"message\":\"no\",\"exit_code\":5}\n"
    );
}

#[test]
fn foreign_text_is_escaped_and_survives() {
    let name = "a\u{1b}[2J\u{202e}txt\u{9b}\n";
    let shown = line(&Line::Retrying { transfer: 1, attempt: 2, in_s: 0.0, reason: name });
    assert!(shown.contains(r"a\u001b[2J\u202etxt\u009b\n"), "{shown}");
    let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["reason"], name);
}

#[test]
fn missing_bytes_end_with_the_file() {
    let span = |start, count| Missing::new(ChunkRange { start, count }, 100, 950).span();
    assert_eq!(span(8, 2), Some((800, 949, 150)));
    assert_eq!(span(0, 1), Some((0, 99, 100)));
    assert_eq!(span(20, 1), None);
    assert_eq!(Missing::new(ChunkRange { start: u32::MAX, count: u32::MAX }, u64::MAX, u64::MAX).bytes, 0);
}
