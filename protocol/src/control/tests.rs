use super::*;

#[test]
fn a_preamble_is_magic_and_version() {
    let bytes = Preamble { version: 0x0102 }.encode();
    assert_eq!(&bytes, b"p2pctl\x02\x01");
    assert_eq!(Preamble::decode(bytes), Some(Preamble { version: 0x0102 }));
    assert_eq!(Preamble::decode(Preamble::ours().encode()), Some(Preamble { version: VERSION }));
    assert_eq!(Preamble::decode(*b"p2pctm\x02\x01"), None);
}

#[test]
fn every_event_says_which_transfer_it_is_about() {
    let waiting = TransferEvent::Waiting { transfer: 7, reason: WaitReason::Hashing };
    let left_out = TransferEvent::LeftOut { transfer: 8, path: String::new(), what: String::new() };
    assert_eq!((waiting.transfer(), waiting.is_last()), (7, false));
    assert_eq!((left_out.transfer(), left_out.is_last()), (8, false));
}
