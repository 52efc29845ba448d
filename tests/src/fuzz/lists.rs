//! Lists of chaining values, and chunks checked against them.

use arbitrary::{Arbitrary, Unstructured};
use p2p_protocol::{
    Cv, FileId, Geometry,
    limits::GROUP_LEN,
    tree::{
        Expected, check_page, check_top, chunks_from_groups, hash_group, hash_small, merge_root,
        top_from_chunks, verify, verify_zeros,
    },
};

use super::file::File;

/// A lie about a list.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum Change {
    Flip {
        at: u16,
        byte: u8,
        bit: u8,
    },
    Swap {
        one: u16,
        other: u16,
    },
    Copy {
        from: u16,
        to: u16,
    },
    Insert {
        at: u16,
        value: [u8; 32],
    },
    Remove {
        at: u16,
    },
    Cut {
        to: u16,
    },
    /// Two neighbours become what they merge to, as a tree of another shape has it.
    Merge {
        at: u16,
    },
    /// The list of the other file.
    Other,
}

/// Of all lists, changed in any way, only the true one passes; of all bytes, only the true ones verify.
pub fn lists(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let _ = if bytes.first().is_some_and(|first| first % 4 == 0) {
        content(&mut input)
    } else {
        file(&mut input)
    };
}

fn file(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let [file, other] = File::pair(u8::arbitrary(input)? / 4);
    let (geometry, id) = (file.geometry, file.id);
    let page = u32::from(u8::arbitrary(input)? % 5);
    let id = if u8::arbitrary(input)? == 0 { other.id } else { id };
    let is_named = id == file.id;

    let (mut top, mut values) = (file.top.clone(), file.page(page));
    while !input.is_empty() {
        let (of_top, change) = <(bool, Change)>::arbitrary(input)?;
        let list = if of_top { &mut top } else { &mut values };
        apply(change, list, if of_top { other.top.clone() } else { other.page(page) });
    }
    let wanted = if id == other.id { other } else { file };
    let top_is_true = geometry.pages() > 1 && top == wanted.top;
    assert_eq!(check_top(geometry, id, &top).is_ok(), top_is_true);
    // A page is compared with a top that was checked, and with no other.
    if top_is_true || geometry.pages() < 2 {
        let is_true = geometry.pages() > 0 && page < geometry.pages() && values == wanted.page(page);
        assert_eq!(check_page(geometry, id, &top, page, &values).is_ok(), is_true, "named: {is_named}");
    } else {
        // Whatever it says, it must not fall over.
        let _ = check_page(geometry, id, &top, page, &values);
    }
    Ok(())
}

fn apply(change: Change, list: &mut Vec<Cv>, other: Vec<Cv>) {
    let len = list.len();
    let place = |at: u16| usize::from(at).checked_rem(len);
    match change {
        Change::Flip { at, byte, bit } => {
            if let Some(at) = place(at) {
                list[at].0[usize::from(byte) % 32] ^= 1 << (bit % 8);
            }
        }
        Change::Swap { one, other } => {
            if let (Some(one), Some(other)) = (place(one), place(other)) {
                list.swap(one, other);
            }
        }
        Change::Copy { from, to } => {
            if let (Some(from), Some(to)) = (place(from), place(to)) {
                list[to] = list[from];
            }
        }
        Change::Insert { at, value } => list.insert(usize::from(at) % (len + 1), Cv(value)),
        Change::Remove { at } => drop(place(at).map(|at| list.remove(at))),
        Change::Cut { to } => list.truncate(usize::from(to)),
        Change::Merge { at } => {
            if let Some(at) = place(at).filter(|at| at + 1 < len) {
                let right = list.remove(at + 1);
                list[at] = p2p_protocol::tree::merge(&[list[at], right]).unwrap();
            }
        }
        Change::Other => *list = other,
    }
}

/// Real bytes: a few groups of a pattern from the input, changed in one place or not.
fn content(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let (_, groups, tail, log2): (u8, u8, u32, u8) = Arbitrary::arbitrary(input)?;
    let (chunk, damage, place): (u32, Damage, u32) = Arbitrary::arbitrary(input)?;
    let pattern = input.bytes(input.len())?;
    let len = u64::from(groups % 3) * GROUP_LEN + u64::from(tail) % (GROUP_LEN + 1);
    let pattern = [pattern, &[0]].concat();
    let mut data = pattern.repeat(len as usize / pattern.len() + 1);
    data.truncate(len as usize);
    let Ok(geometry) = Geometry::new(len, log2 % 8 + 16) else {
        assert!(!(18..=22).contains(&(log2 % 8 + 16)));
        return Ok(());
    };
    let values: Vec<Cv> =
        data.chunks(GROUP_LEN as usize).enumerate().map(|(n, part)| hash_group(n as u64, part)).collect();
    let id = FileId(*blake3::hash(&data).as_bytes());
    let chunks = chunks_from_groups(geometry, &values);
    assert_eq!(chunks.len(), geometry.chunks() as usize);
    if geometry.pages() > 0 {
        assert_eq!(merge_root(&chunks), Some(id));
        assert_eq!(top_from_chunks(&chunks).len(), 1);
        check_page(geometry, id, &[], 0, &chunks).unwrap();
    } else if geometry.groups() < 2 {
        assert_eq!(hash_small(&data), id);
    }
    let expected = match chunks.get(chunk as usize) {
        Some(value) if geometry.pages() > 0 => Expected::Subtree(*value),
        _ => Expected::Root(id),
    };
    let range = geometry.bytes_of(chunk.min(geometry.chunks()));
    let truth = &data[range.start.min(len) as usize..range.end.min(len) as usize];
    let mut bytes = truth.to_vec();
    let mut index = chunk;
    match damage {
        Damage::None => {}
        Damage::Flip(bit) => {
            if let Some(at) = (place as usize).checked_rem(bytes.len()) {
                bytes[at] ^= 1 << (bit % 8);
            }
        }
        Damage::Cut => bytes.truncate(place as usize % (bytes.len() + 1)),
        Damage::Longer => bytes.push(0),
        Damage::Elsewhere => index = place,
    }
    let is_true = geometry.has(chunk) && index == chunk && bytes == truth;
    match verify(geometry, index, expected, &bytes[..]) {
        Some(verified) => {
            // The same bytes at another place are another subtree, unless the chunk is the whole file.
            assert!(is_true, "chunk {index} of {geometry:?} verified against another's value");
            assert_eq!(verified.index(), index);
            if geometry.groups() > 1 {
                let groups = geometry.groups_of(index);
                assert_eq!(verified.groups(), &values[groups.start as usize..groups.end as usize]);
            }
        }
        None => assert!(!is_true, "chunk {index} of {geometry:?} does not verify"),
    }
    let zeros = verify_zeros::<()>(geometry, chunk, expected).is_some();
    assert_eq!(zeros, geometry.has(chunk) && truth.iter().all(|byte| *byte == 0));
    Ok(())
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Damage {
    None,
    Flip(u8),
    Cut,
    Longer,
    Elsewhere,
}
