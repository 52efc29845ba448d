//! Which chunks of a transfer are there, drawn: a cell for a run of chunks, the fuller the more of them are verified.

use p2p_protocol::{ChunkRange, control::Detail};

use crate::output::Look;

/// Most lines that a map takes.
const ROWS: u32 = 4;

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// So many of so many chunks are verified.
    Of(u32, u32),
    /// There are more gaps than were told of.
    Unknown,
}

impl Cell {
    fn drawn(self) -> (Look, char) {
        match self {
            Self::Unknown => (Look::Dim, '?'),
            Self::Of(verified, chunks) if verified >= chunks => (Look::Good, '█'),
            Self::Of(0, _) => (Look::Dim, '·'),
            Self::Of(verified, chunks) if verified * 3 < chunks => (Look::Warning, '░'),
            Self::Of(verified, chunks) if verified * 3 < chunks * 2 => (Look::Warning, '▒'),
            Self::Of(..) => (Look::Warning, '▓'),
        }
    }
}

/// A line of a map, in pieces that look alike.
pub(crate) type Row = Vec<(Look, String)>;

/// The map of a transfer of more than one chunk, so many characters wide.
pub(crate) fn draw(detail: &Detail, width: u32) -> Vec<Row> {
    let chunks = detail.summary.progress.chunks_total;
    let missing = chunks.saturating_sub(detail.summary.progress.chunks_verified);
    if chunks < 2 || width == 0 {
        return Vec::new();
    }
    let told: u64 = detail.missing.iter().map(|range| u64::from(range.count)).sum();
    // Where not all gaps fit into the answer, nothing is known of what comes after the last of them.
    let known = match detail.missing.last() {
        Some(last) if told < u64::from(missing) => last.start.saturating_add(last.count),
        None if missing > 0 => 0,
        _ => chunks,
    };
    let cells = cells(chunks, &detail.missing, known, chunks.min(width.saturating_mul(ROWS)));
    cells.chunks(width as usize).map(row).collect()
}

fn cells(chunks: u32, missing: &[ChunkRange], known: u32, count: u32) -> Vec<Cell> {
    let edge = |cell: u32| (u64::from(cell) * u64::from(chunks) / u64::from(count)) as u32;
    let mut gaps = missing.iter().peekable();
    let mut cells = Vec::new();
    for cell in 0..count {
        let (from, to) = (edge(cell), edge(cell + 1));
        if to > known {
            cells.push(Cell::Unknown);
            continue;
        }
        let mut absent = 0;
        while let Some(gap) = gaps.peek() {
            let end = gap.start.saturating_add(gap.count);
            absent += end.min(to).saturating_sub(gap.start.max(from));
            if end > to {
                break;
            }
            gaps.next();
        }
        cells.push(Cell::Of((to - from).saturating_sub(absent), to - from));
    }
    cells
}

fn row(cells: &[Cell]) -> Row {
    let mut row = Row::new();
    for (look, shown) in cells.iter().map(|cell| cell.drawn()) {
        match row.last_mut() {
            Some((before, text)) if *before == look => text.push(shown),
            _ => row.push((look, shown.into())),
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use p2p_protocol::control::State;

    use super::*;
    use crate::commands::example;

    fn drawn(chunks: u32, missing: &[(u32, u32)], width: u32) -> Vec<String> {
        let mut summary = example(7, State::Active);
        summary.progress.chunks_total = chunks;
        summary.progress.chunks_verified = chunks - missing.iter().map(|(_, count)| count).sum::<u32>();
        let missing =
            missing.iter().map(|(start, count)| ChunkRange { start: *start, count: *count }).collect();
        let detail = Detail { summary, chunk_len: 1 << 20, missing, failed_chunks: Vec::new() };
        text(&draw(&detail, width))
    }

    fn text(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| row.iter().map(|(_, text)| text.as_str()).collect()).collect()
    }

    #[test]
    fn a_cell_is_as_full_as_what_it_stands_for() {
        assert_eq!(drawn(8, &[(1, 2), (7, 1)], 20), ["█··████·"]);
        assert_eq!(drawn(40, &[(0, 10), (11, 9), (25, 5), (39, 1)], 1), ["·", "░", "▒", "▓"]);
        assert_eq!(drawn(12, &[(4, 8)], 2), ["██", "█·", "··", "··"]);
        assert_eq!(drawn(16, &[], 16), ["████████████████"]);
        assert!(drawn(1, &[(0, 1)], 9).is_empty());
    }

    #[test]
    fn cells_of_one_kind_are_painted_together() {
        let mut summary = example(7, State::Active);
        (summary.progress.chunks_total, summary.progress.chunks_verified) = (6, 3);
        let missing = vec![ChunkRange { start: 3, count: 3 }];
        let detail = Detail { summary, chunk_len: 1 << 20, missing, failed_chunks: Vec::new() };
        let row: Row = vec![(Look::Good, "███".into()), (Look::Dim, "···".into())];
        assert_eq!(draw(&detail, 80), [row]);
    }

    #[test]
    fn what_was_not_told_of_is_not_known() {
        let mut summary = example(7, State::Active);
        (summary.progress.chunks_total, summary.progress.chunks_verified) = (10, 4);
        let missing = vec![ChunkRange { start: 1, count: 2 }];
        let detail = Detail { summary, chunk_len: 1 << 20, missing, failed_chunks: Vec::new() };
        assert_eq!(text(&draw(&detail, 10)), ["█··???????"]);
    }
}
