//! The time axis of the chart. A very long span without events that led to the violation is
//! squeezed.

/// The x coordinates of times.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Times in microseconds and their x coordinates, both ascending.
    stops: Vec<(u64, i64)>,
    /// The squeezed spans.
    pub(super) squeezed: Vec<(i64, i64)>,
}

/// A mark on the axis.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tick {
    pub(super) x: i64,
    pub(super) label: String,
}

/// A squeezed span is drawn at least as long as the `SQUEEZED`th part of the run.
const SQUEEZED: u64 = 12;
/// The distance between two labels.
const APART: i64 = 56;

impl Axis {
    /// An axis for the times from 0 to `end`, at the coordinates from `x` to `x + width`. A very
    /// long span between two of the times `keys` is squeezed.
    pub(super) fn new(keys: impl Iterator<Item = u64>, end: u64, x: i64, width: i64) -> Self {
        let end = end.max(1);
        let mut times: Vec<u64> = keys.filter(|at| *at < end).chain([0, end]).collect();
        times.sort_unstable();
        times.dedup();
        let is_plain = times.len() <= 2;
        // A span that is longer than all other spans together is drawn only as long as those.
        let weigh = |gap: u64| match end - gap {
            rest if rest < gap && !is_plain => (rest.max(end / SQUEEZED), true),
            _ => (gap, false),
        };
        let gaps: Vec<(u64, u64)> = times.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let total: u64 = gaps.iter().map(|(from, to)| weigh(to - from).0).sum();
        let mut axis = Self {
            stops: vec![(0, x)],
            squeezed: Vec::new(),
        };
        let mut weight = 0;
        for (from, to) in gaps {
            let before = axis.stops.last().map_or(x, |stop| stop.1);
            let (own, is_squeezed) = weigh(to - from);
            weight += own;
            let at = x + scaled(weight, total, width);
            axis.stops.push((to, at));
            if is_squeezed {
                axis.squeezed.push((before, at));
            }
        }
        axis
    }

    /// The coordinate of a time.
    pub(super) fn x(&self, at: u64) -> i64 {
        let after = self.stops.partition_point(|(time, _)| *time <= at);
        let Some((to, end)) = self.stops.get(after) else {
            return self.stops.last().map_or(0, |stop| stop.1);
        };
        let (from, start) = self.stops[after - 1];
        start + scaled(at - from, to - from, end - start)
    }

    /// Times for labels, in round seconds.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let end = self.stops.last().map_or(0, |stop| stop.0);
        let mut step = 1000;
        let round = [2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
        let mut rounds = (0..6).flat_map(|power: u32| {
            let unit = 100 * 10u64.pow(power);
            round.iter().map(move |n| n * unit)
        });
        while end / step > 40 {
            step = rounds.next().unwrap_or(end).max(step);
        }
        let mut ticks: Vec<Tick> = Vec::new();
        for at in (0..=end / step).map(|n| n * step) {
            let x = self.x(at);
            if ticks.last().is_none_or(|last| x - last.x >= APART) {
                let label = super::text::seconds_short(at);
                ticks.push(Tick { x, label });
            }
        }
        ticks
    }
}

/// `part / whole * width`, rounded down.
pub(super) fn scaled(part: u64, whole: u64, width: i64) -> i64 {
    let scaled = i128::from(part) * i128::from(width) / i128::from(whole.max(1));
    i64::try_from(scaled).unwrap_or(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_important_times_the_axis_is_linear() {
        let axis = Axis::new([].into_iter(), 1_000_000, 10, 100);
        assert_eq!(
            [0, 500_000, 1_000_000, 2_000_000].map(|at| axis.x(at)),
            [10, 60, 110, 110]
        );
        assert!(axis.squeezed.is_empty());
    }

    #[test]
    fn a_long_silence_is_squeezed_and_order_is_kept() {
        let keys = [1_000_000, 2_000_000, 900_000_000];
        let axis = Axis::new(keys.into_iter(), 901_000_000, 0, 1000);
        let all: Vec<i64> = (0..=901).map(|s| axis.x(s * 1_000_000)).collect();
        assert!(all.is_sorted());
        assert_eq!(all.last(), Some(&1000));
        assert_eq!(axis.squeezed.len(), 1);
        let ticks = axis.ticks();
        assert!(ticks.windows(2).all(|pair| pair[1].x - pair[0].x >= APART));
    }
}
