//! A flow that yields, alone and beside others.

use super::*;

/// Rates, round trips and queues, in Mbit/s, milliseconds and bandwidth-delay products.
const PATHS: [(f64, u64, f64); 6] =
    [(20.0, 20, 1.0), (20.0, 40, 4.0), (20.0, 100, 1.0), (50.0, 20, 4.0), (100.0, 40, 1.0), (100.0, 20, 0.5)];

fn path((rate, rtt, queue): (f64, u64, f64)) -> Path {
    Path::mbit(rate, rtt).queue_of(queue)
}

#[test]
fn alone_it_fills_most_of_the_path_and_builds_no_queue_beyond_its_target() {
    for what in PATHS {
        let mut simulation = Simulation::new(path(what));
        simulation.yielding(Time::ZERO);
        simulation.run_until(seconds(5));
        let share = simulation.shares(seconds(25))[0];
        let flow = &simulation.flows[0];
        assert!(share >= 0.7, "{what:?}: {share:.2}");
        assert!(simulation.inflation(0) <= 1.1, "{what:?}: {:.2}", simulation.inflation(0));
        assert!(flow.lost as f64 / flow.sent as f64 <= 0.01, "{what:?}: {} of {}", flow.lost, flow.sent);
    }
}

#[test]
fn beside_another_flow_it_takes_little_and_comes_back_when_that_ends() {
    for what in PATHS {
        for (cubic, most) in [(true, 0.12), (false, 0.3)] {
            for yields_first in [true, false] {
                let mut simulation = Simulation::new(path(what));
                let (own, other) =
                    if yields_first { (Time::ZERO, seconds(5)) } else { (seconds(5), Time::ZERO) };
                simulation.yielding(own);
                if cubic {
                    simulation.cubic(other)
                } else {
                    simulation.ours(other)
                }
                simulation.run_until(seconds(12));
                let shares = simulation.shares(seconds(20));
                let what = format!("{what:?}, cubic: {cubic}, yields first: {yields_first}: {shares:.2?}");
                assert!(shares[0] <= most && shares[1] >= 0.65, "{what}");
                simulation.flows[1].ended = true;
                simulation.run_until(simulation.now + seconds(5));
                let share = simulation.shares(seconds(5))[0];
                assert!(share >= 0.5, "{what}, then {share:.2}");
            }
        }
    }
}

#[test]
fn a_late_one_comes_to_its_share_beside_another() {
    for what in PATHS {
        let mut simulation = Simulation::new(path(what));
        simulation.yielding(Time::ZERO);
        simulation.yielding(seconds(5));
        simulation.run_until(seconds(20));
        let shares = simulation.shares(seconds(25));
        let (sum, least) = (shares.iter().sum::<f64>(), shares[0].min(shares[1]));
        assert!(sum >= 0.7 && least >= 0.3 * sum, "{what:?}: {shares:.2?}");
    }
}

#[test]
fn it_pauses_now_and_then_for_a_small_part_of_the_time() {
    let mut simulation = Simulation::new(path((20.0, 40, 1.0)));
    simulation.yielding(Time::ZERO);
    simulation.run_until(seconds(5));
    let least = 4 * u64::from(MTU);
    let (mut pauses, mut paused, mut before) = (0, 0, false);
    for _ in 0..25_000 {
        simulation.run_until(simulation.now + Duration::from_millis(1));
        let now = simulation.flows[0].control.window() <= least;
        pauses += u32::from(now && !before);
        paused += u32::from(now);
        before = now;
    }
    assert!((5..50).contains(&pauses) && paused < 25_000 / 12, "{pauses}, {paused} ms");
}

#[test]
fn what_a_path_loses_by_itself_leaves_it_something() {
    for (percent, least) in [(0.01, 0.6), (0.1, 0.2), (1.0, 0.03)] {
        let mut simulation = Simulation::new(Path::mbit(100.0, 40).loss(percent));
        simulation.yielding(Time::ZERO);
        simulation.run_until(seconds(5));
        let share = simulation.shares(seconds(20))[0];
        assert!(share >= least, "{percent} %: {share:.2}");
    }
}
