//! What `p2p top` knows, and what its keys do.

use p2p_protocol::{
    control::{Direction, PeerInfo, Request, State, Status, Summary, WaitReason},
    queue::Priority,
};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Transfers that have ended and are still shown, the last ones.
const ENDED_SHOWN: usize = 20;

/// What follows from a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing but another picture.
    Stay,
    /// The daemon is asked for this.
    Ask(Box<Request>),
    /// That was all.
    Quit,
}

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) transfers: Vec<Summary>,
    pub(super) peers: Vec<PeerInfo>,
    pub(super) status: Option<Status>,
    /// The transfer that keys are about.
    pub(super) selected: Option<u64>,
    /// Whether a key has been about it. Until then the selection goes to what runs.
    chosen: bool,
    /// One whose end has to be confirmed.
    pub(super) asking: Option<u64>,
    /// What went wrong last.
    pub(super) trouble: Option<String>,
}

impl Model {
    /// What the daemon says now.
    pub(super) fn take(&mut self, transfers: Vec<Summary>, peers: Vec<PeerInfo>, status: Status) {
        let place = self.place();
        let (mut open, mut ended): (Vec<_>, Vec<_>) =
            transfers.into_iter().partition(|transfer| transfer.ended_ms.is_none());
        open.sort_by_key(|transfer| {
            let place = transfer.priority as u8;
            (transfer.state != State::Active, place, transfer.transfer)
        });
        ended.sort_by_key(|transfer| std::cmp::Reverse((transfer.ended_ms, transfer.transfer)));
        ended.truncate(ENDED_SHOWN);
        open.append(&mut ended);
        self.transfers = open;
        self.peers = peers;
        self.status = Some(status);
        if !self.transfers.iter().any(|transfer| Some(transfer.transfer) == self.selected) {
            self.select(place);
        }
        let runs = |transfer: &Summary| transfer.state == State::Active;
        if !self.chosen && !self.transfers.get(self.place()).is_some_and(runs) {
            self.select(0);
        }
    }

    /// The line that is selected.
    pub(super) fn place(&self) -> usize {
        let selected = |transfer: &Summary| Some(transfer.transfer) == self.selected;
        self.transfers.iter().position(selected).unwrap_or(0)
    }

    fn select(&mut self, place: usize) {
        let last = self.transfers.len().saturating_sub(1);
        self.selected = self.transfers.get(place.min(last)).map(|transfer| transfer.transfer);
    }

    fn choose(&mut self, place: usize) {
        self.chosen = true;
        self.select(place);
    }

    /// Bytes a second from here and to here, over all of these transfers.
    pub(super) fn rates(transfers: impl Iterator<Item = Summary>) -> (u64, u64) {
        let running = transfers.filter(|transfer| transfer.state == State::Active);
        running.fold((0, 0), |(up, down), transfer| match transfer.direction {
            Direction::Send | Direction::Serve => (up + transfer.progress.rate, down),
            Direction::Fetch | Direction::Receive => (up, down + transfer.progress.rate),
        })
    }

    /// A key was pressed.
    pub(super) fn on(&mut self, key: KeyEvent) -> Step {
        self.trouble = None;
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Step::Quit;
        }
        if let Some(transfer) = self.asking.take() {
            return match key.code {
                KeyCode::Char('y' | 'Y') => Step::Ask(Box::new(Request::Cancel(transfer))),
                _ => Step::Stay,
            };
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Step::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.choose(self.place().saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(self.place() + 1),
            KeyCode::Home | KeyCode::Char('g') => self.choose(0),
            KeyCode::End | KeyCode::Char('G') => self.choose(usize::MAX),
            code => return self.act(code),
        }
        Step::Stay
    }

    /// Keys that are about the selected transfer.
    fn act(&mut self, code: KeyCode) -> Step {
        let acts = matches!(code, KeyCode::Char('p' | ' ' | 'r' | 'c' | 'd' | '+' | '=' | '-') | KeyCode::Delete);
        if !acts {
            return Step::Stay;
        }
        let Some(current) = self.transfers.get(self.place()) else {
            self.trouble = Some("there is no transfer".to_owned());
            return Step::Stay;
        };
        self.chosen = true;
        let (number, priority) = (current.transfer, current.priority);
        if current.ended_ms.is_some() {
            self.trouble = Some(format!("transfer {number} has ended: there is nothing to do to it"));
            return Step::Stay;
        }
        match code {
            KeyCode::Char('p' | ' ') if current.waiting == Some(WaitReason::Paused) => {
                Step::Ask(Box::new(Request::Resume(number)))
            }
            KeyCode::Char('p' | ' ') => Step::Ask(Box::new(Request::Pause(number))),
            KeyCode::Char('r') => Step::Ask(Box::new(Request::Resume(number))),
            KeyCode::Char('c' | 'd') | KeyCode::Delete => {
                self.asking = Some(number);
                Step::Stay
            }
            KeyCode::Char('+' | '=') => Step::Ask(Box::new(Request::Prioritise(number, before(priority)))),
            KeyCode::Char('-') => Step::Ask(Box::new(Request::Prioritise(number, after(priority)))),
            _ => Step::Stay,
        }
    }
}

fn before(priority: Priority) -> Priority {
    match priority {
        Priority::Low => Priority::Normal,
        Priority::Normal | Priority::High => Priority::High,
    }
}

fn after(priority: Priority) -> Priority {
    match priority {
        Priority::High => Priority::Normal,
        Priority::Normal | Priority::Low => Priority::Low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{example, top::draw::tests::status};

    fn press(model: &mut Model, key: char) -> Step {
        model.on(KeyEvent::from(KeyCode::Char(key)))
    }

    fn model(transfers: Vec<Summary>) -> Model {
        let mut model = Model::default();
        model.take(transfers, Vec::new(), status());
        model
    }

    fn numbers(model: &Model) -> Vec<u64> {
        model.transfers.iter().map(|transfer| transfer.transfer).collect()
    }

    fn waiting(transfer: u64, priority: Priority) -> Summary {
        Summary { priority, ..example(transfer, State::Waiting) }
    }

    #[test]
    fn what_runs_comes_first_then_what_waits_then_what_ended_last() {
        let ended = |number, at| Summary { ended_ms: Some(at), ..example(number, State::Done) };
        let mut all: Vec<Summary> = (10..50).map(|number| ended(number, number)).collect();
        all.extend([
            waiting(1, Priority::Low),
            waiting(2, Priority::High),
            example(3, State::Active),
            ended(4, 99),
        ]);
        let model = model(all);
        assert_eq!(numbers(&model)[..5], [3, 2, 1, 4, 49]);
        assert_eq!(model.transfers.len(), 3 + ENDED_SHOWN);
        assert_eq!(model.selected, Some(3));
    }

    #[test]
    fn keys_are_about_the_selected_transfer() {
        let paused = Summary { waiting: Some(WaitReason::Paused), ..waiting(2, Priority::High) };
        let mut model = model(vec![example(1, State::Active), paused]);
        assert_eq!(press(&mut model, 'p'), Step::Ask(Box::new(Request::Pause(1))));
        assert_eq!(press(&mut model, '+'), Step::Ask(Box::new(Request::Prioritise(1, Priority::High))));
        assert_eq!(press(&mut model, 'j'), Step::Stay);
        assert_eq!(press(&mut model, 'p'), Step::Ask(Box::new(Request::Resume(2))));
        assert_eq!(press(&mut model, '-'), Step::Ask(Box::new(Request::Prioritise(2, Priority::Normal))));
        press(&mut model, 'j');
        assert_eq!(model.selected, Some(2), "there is none below");
        model.take(vec![example(1, State::Active)], Vec::new(), status());
        assert_eq!(model.selected, Some(1), "the other one is gone");
        assert_eq!(press(&mut model, 'q'), Step::Quit);
        assert_eq!(model.on(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Step::Quit);
    }

    #[test]
    fn nothing_is_cancelled_without_a_yes() {
        let mut model = model(vec![example(1, State::Active)]);
        assert_eq!(press(&mut model, 'c'), Step::Stay);
        assert_eq!(press(&mut model, 'n'), Step::Stay);
        assert_eq!(press(&mut model, 'y'), Step::Stay);
        press(&mut model, 'c');
        assert_eq!(press(&mut model, 'y'), Step::Ask(Box::new(Request::Cancel(1))));
        let mut ended = example(1, State::Done);
        ended.ended_ms = Some(1);
        model.take(vec![ended], Vec::new(), status());
        assert_eq!((press(&mut model, 'c'), model.asking), (Step::Stay, None), "it has ended");
        model.take(Vec::new(), Vec::new(), status());
        assert_eq!((press(&mut model, 'p'), model.selected), (Step::Stay, None));
    }

    #[test]
    fn what_runs_is_selected_until_a_key_says_otherwise_and_nothing_is_done_in_silence() {
        let ended = |number| Summary { ended_ms: Some(1), ..example(number, State::Done) };
        let mut model = model(vec![ended(1)]);
        assert_eq!(model.selected, Some(1), "there is no other");
        model.take(vec![ended(1), waiting(2, Priority::High)], Vec::new(), status());
        assert_eq!(model.selected, Some(2));
        model.take(vec![ended(1), waiting(2, Priority::High), example(3, State::Active)], Vec::new(), status());
        assert_eq!(model.selected, Some(3));
        model.on(KeyEvent::from(KeyCode::End));
        model.take(vec![ended(1), example(4, State::Active)], Vec::new(), status());
        assert_eq!(model.selected, Some(1), "it was chosen");
        for key in ['p', 'c', '+'] {
            assert_eq!(press(&mut model, key), Step::Stay);
            assert!(model.trouble.as_ref().unwrap().contains("transfer 1 has ended"), "{key}");
        }
        press(&mut model, 'x');
        assert_eq!(model.trouble, None, "a key that means nothing says nothing");
        model.take(Vec::new(), Vec::new(), status());
        press(&mut model, 'p');
        assert_eq!(model.trouble.as_deref(), Some("there is no transfer"));
    }
}
