//! How much moved since this command attached.

/// Turns the daemon's running total of payload bytes into what moved since the command attached. The
/// daemon's total covers the transfer's whole life, and after a crash it may be a second behind what this
/// command has seen already.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// The daemon's total when the command attached.
    base: Option<u64>,
    /// The daemon's total as last seen.
    last: u64,
    /// What earlier daemons moved and the present one does not know of.
    carried: u64,
    /// Whether the next number is the first one of another daemon.
    again: bool,
}

impl Meter {
    /// The daemon is another one now.
    pub(crate) fn reattach(&mut self) {
        self.again = true;
    }

    /// The daemon's total, as it is now.
    pub(crate) fn see(&mut self, total: u64) {
        self.base.get_or_insert(total);
        if std::mem::take(&mut self.again) {
            self.carried += self.last.saturating_sub(total);
            self.last = total;
        }
        self.last = self.last.max(total);
    }

    /// What moved, given the daemon's last total; `made` tells that this command made the transfer, so that
    /// all of it counts even if no number came before the last.
    pub(crate) fn moved(&mut self, total: u64, made: bool) -> u64 {
        if self.base.is_none() && made {
            self.base = Some(0);
        }
        self.see(total);
        (self.last + self.carried).saturating_sub(self.base.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(totals: &[u64]) -> Meter {
        let mut meter = Meter::default();
        totals.iter().for_each(|total| meter.see(*total));
        meter
    }

    #[test]
    fn what_moved_before_does_not_count() {
        assert_eq!(meter(&[0, 50]).moved(100, true), 100);
        assert_eq!(meter(&[40, 50]).moved(100, false), 60);
        assert_eq!(meter(&[]).moved(100, true), 100);
        assert_eq!(meter(&[]).moved(100, false), 0);
    }

    #[test]
    fn a_daemon_that_came_back_may_have_forgotten_a_second() {
        let mut forgetful = meter(&[0, 60]);
        forgetful.reattach();
        forgetful.see(50);
        assert_eq!(forgetful.moved(90, true), 100);

        let mut ahead = meter(&[0, 60]);
        ahead.reattach();
        ahead.see(70);
        assert_eq!(ahead.moved(90, true), 90);

        let mut finished_meanwhile = meter(&[10, 60]);
        finished_meanwhile.reattach();
        assert_eq!(finished_meanwhile.moved(90, false), 80);
    }
}
