//! Expands a seed into a plan. Topology, settings, workload, faults and actions are each drawn from
//! a random stream of their own.

mod conditions;
mod faults;
mod retention;

use super::settings::longest_row;
use super::{Action, ActionRow, DiskPlan, NetworkPlan, NodePlan, Plan, When, WorkloadRow};
use crate::choice::SimRng;
use std::collections::BTreeMap;
use walsim_core::base::{Geometry, PgVersion, Real, Settings};
use walsim_core::wire::sql::Statement;

const MS: u64 = 1000;
const SECOND: u64 = 1_000_000;
/// The minimum number of commits of all sessions together.
const LEAST_COMMITS: u32 = 200;
/// The capacity of every disk. No run needs this much. Only a fault makes a disk full.
const DISK_CAPACITY: u64 = 4 << 30;

/// The distribution from which plans are drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Profile {
    /// Plans with faults. The faults are limited so that every run can recover.
    Default,
    /// Plans without faults. Every run must pass.
    Faultless,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 2] = [Self::Default, Self::Faultless];

    /// The name in commands and plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Faultless => "faultless",
        }
    }

    /// The profile with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// Parts of a plan that are fixed instead of drawn.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fixed {
    /// This is `true` for PostgreSQL's usual page and segment sizes, and `false` for small sizes
    /// that are drawn.
    pub stock: Option<bool>,
    /// The version of all servers.
    pub version: Option<PgVersion>,
}

/// The plan of a seed.
#[must_use]
pub fn generate(profile: Profile, seed: u64) -> Plan {
    generate_with(profile, seed, Fixed::default())
}

/// The plan of a seed, with some parts fixed. A fixed part is drawn and then overwritten, so that
/// all other draws stay the same.
#[must_use]
pub fn generate_with(profile: Profile, seed: u64, fixed: Fixed) -> Plan {
    let mut draw = Draw {
        rng: SimRng::new(seed, "plan.topology"),
        seed,
    };
    let stock = draw.rng.ratio(1, 2);
    let stock = fixed.stock.unwrap_or(stock);
    let tiny = draw.tiny_geometry();
    let geometry = if stock { Geometry::STOCK } else { tiny };
    let version = *draw.rng.pick(&[PgVersion::V15, PgVersion::V18]);
    // A separate random stream decides about the other versions, so that the other draws of the
    // seed do not depend on them.
    let mut other = SimRng::new(seed, "plan.version");
    let version = if other.ratio(1, 3) {
        PgVersion::V19
    } else {
        *other.pick(&[
            version,
            version,
            version,
            version,
            PgVersion::V16,
            PgVersion::V17,
        ])
    };
    let version = fixed.version.unwrap_or(version);
    let active_us = draw.rng.between(10, 20) * SECOND;
    let mut nodes = draw.nodes(version, geometry);
    let mut network = draw.network();
    let disks = draw.disks();
    let step_delays = draw.rng.ratio(3, 4);

    draw.stream("plan.workload");
    let workload = draw.workload(&geometry, active_us);
    draw.stream("plan.actions");
    let mut actions = draw.actions(stock, active_us);
    draw.stream("plan.retention");
    let races = draw.retention(&mut nodes, &mut actions, active_us);
    draw.stream("plan.faults");
    let mut faults = match profile {
        Profile::Default => draw.faults(nodes.len(), active_us),
        Profile::Faultless => Vec::new(),
    };
    draw.stream("plan.stalls");
    if profile == Profile::Default {
        faults.extend(draw.stalls(nodes.len(), active_us));
        faults.extend(races);
    }
    draw.stream("plan.conditions");
    let losses = draw.conditions(&mut nodes, &mut network, active_us);
    if profile == Profile::Default {
        faults.extend(losses);
    }
    Plan {
        seed,
        name: profile.name().into(),
        about: String::new(),
        nodes,
        network,
        disks,
        workload,
        faults,
        actions,
        active_us,
        pins: BTreeMap::new(),
        step_delays,
    }
}

struct Draw {
    rng: SimRng,
    seed: u64,
}

impl Draw {
    fn stream(&mut self, name: &str) {
        self.rng = SimRng::new(self.seed, name);
    }

    fn small(&mut self, least: u32, most: u32) -> u32 {
        let drawn = self.rng.between(u64::from(least), u64::from(most));
        u32::try_from(drawn).expect("both bounds are of this type")
    }

    /// A random time in whole milliseconds, because these are easier to read.
    fn between_ms(&mut self, least_us: u64, most_us: u64) -> u64 {
        self.rng.between(least_us / MS, most_us / MS) * MS
    }

    fn tiny_geometry(&mut self) -> Geometry {
        let wal_page = *self.rng.pick(&[256, 512, 1024]);
        let pages = *self.rng.pick(&[8, 16, 32, 64]);
        Geometry {
            wal_page,
            segment: wal_page * pages,
            data_page: *self.rng.pick(&[512, 1024, 2048]),
            sector: *self.rng.pick(&[64, 128, 256]),
        }
    }

    fn nodes(&mut self, version: PgVersion, geometry: Geometry) -> Vec<NodePlan> {
        let standbys = *self.rng.pick(&[1, 1, 1, 2, 2, 3]);
        let shared = self.settings(version, geometry);
        let mut nodes = Vec::new();
        for n in 0..=standbys {
            let name = match n {
                0 => String::from("primary"),
                n => format!("standby{n}"),
            };
            let mut settings = shared.clone();
            settings.cluster_name.clone_from(&name);
            settings.shared_buffers = self.small(4, 32);
            settings.primary_conninfo = (n > 0).then(|| (String::from("primary"), super::PORT));
            let offset = self.between_ms(0, 2 * SECOND);
            let drift = self.rng.between(0, 400);
            nodes.push(NodePlan {
                name,
                settings,
                clock_offset_us: signed(offset) - signed(SECOND),
                clock_drift_ppm: i32::try_from(drift).expect("a few hundred") - 200,
                disk_capacity: DISK_CAPACITY,
                slots: Vec::new(),
            });
        }
        nodes
    }

    fn settings(&mut self, version: PgVersion, geometry: Geometry) -> Settings {
        let mut settings = Settings::new(version, geometry);
        settings.wal_buffers = self.small(4, 16);
        settings.max_wal_size = self.rng.between(2, 8) * u64::from(geometry.segment);
        settings.checkpoint_completion_target = Real::from_thousandths(self.small(0, 9) * 100);
        settings.wal_writer_flush_after = *self.rng.pick(&[0, 1, 8, 128]);
        settings.wal_writer_delay_ms = self.small(50, 500);
        for timeout in [
            &mut settings.checkpoint_timeout_ms,
            &mut settings.wal_sender_timeout_ms,
            &mut settings.wal_receiver_timeout_ms,
            &mut settings.wal_receiver_status_interval_ms,
            &mut settings.wal_retrieve_retry_interval_ms,
        ] {
            *timeout = self.small(1000, 5000);
        }
        settings
    }

    fn network(&mut self) -> NetworkPlan {
        NetworkPlan {
            latency_us: *self.rng.pick(&[50, 100, 200, 500, 2000]),
            jitter_us: *self.rng.pick(&[0, 50, 200, 1000]),
            bytes_per_ms: *self.rng.pick(&[2_000, 10_000, 100_000]),
            fragment: self.rng.ratio(1, 2),
            ..NetworkPlan::default()
        }
    }

    fn disks(&mut self) -> DiskPlan {
        DiskPlan {
            latency_us: *self.rng.pick(&[5, 20, 50]),
            jitter_us: *self.rng.pick(&[0, 15, 100]),
            fsync_us: *self.rng.pick(&[100, 250, 1000, 5000]),
        }
    }

    fn workload(&mut self, geometry: &Geometry, active_us: u64) -> Vec<WorkloadRow> {
        let sessions = self.small(2, 8);
        let commits = LEAST_COMMITS + self.small(0, 8);
        let mut rows = Vec::new();
        for session in 0..sessions {
            // No new work begins in the last fifth of the active part. This time is left for work
            // that faults have delayed.
            let room_us = active_us * 4 / 5;
            rows.push(self.burst(session, commits.div_ceil(sessions), room_us, geometry));
            if self.rng.ratio(1, 4) {
                rows.push(self.large_messages(session, room_us, geometry));
            }
        }
        rows
    }

    /// A workload entry for one session, with `commits` commits within about `room_us`.
    fn burst(
        &mut self,
        session: u32,
        commits: u32,
        room_us: u64,
        geometry: &Geometry,
    ) -> WorkloadRow {
        let rollback_every = *self.rng.pick(&[0, 0, 5, 10]);
        let transactions = match rollback_every {
            0 => commits,
            every => commits + commits.div_ceil(every - 1),
        };
        // Some sessions run their transactions in quick succession and then rest. Most sessions
        // spread them over the available time.
        let spread_us = room_us / u64::from(transactions);
        let pause_us = match self.rng.below(4) {
            0 => 0,
            1 => spread_us / 8,
            _ => spread_us * 3 / 4,
        };
        let small_message = self.small(1, geometry.wal_page.min(1024) * 3);
        WorkloadRow {
            when: When::At(self.between_ms(0, room_us / 8)),
            session,
            node: 0,
            transactions,
            rows: *self.rng.pick(&[1, 1, 2, 3]),
            bytes: self.row_bytes(geometry),
            message: if self.rng.ratio(1, 8) {
                small_message
            } else {
                0
            },
            rollback_every,
            asynchronous: self.rng.ratio(1, 4),
            pause_us: pause_us / MS * MS,
            read_every: *self.rng.pick(&[0, 5, 10]),
        }
    }

    /// A few messages, each of which spans many pages. If segments are tiny, a message also spans
    /// several segments.
    fn large_messages(&mut self, session: u32, room_us: u64, geometry: &Geometry) -> WorkloadRow {
        let message = if *geometry == Geometry::STOCK {
            // One message of many pages costs as much time as all other messages together.
            // Therefore the largest messages are rare.
            match self.rng.below(6) {
                0 => self.small(100_000, 300_000),
                _ => self.small(9_000, 60_000),
            }
        } else {
            self.small(geometry.segment / 2, geometry.segment * 3)
        };
        WorkloadRow {
            when: When::At(self.between_ms(0, room_us)),
            session,
            node: 0,
            transactions: self.small(1, 4),
            rows: 1,
            bytes: 16,
            message,
            rollback_every: 0,
            asynchronous: self.rng.ratio(1, 4),
            pause_us: 0,
            read_every: 0,
        }
    }

    fn row_bytes(&mut self, geometry: &Geometry) -> u32 {
        let most = longest_row(geometry);
        match self.rng.below(4) {
            0 => self.small(16, most),
            1 => self.small(16, most / 4),
            _ => self.small(16, 120),
        }
    }

    fn actions(&mut self, stock: bool, active_us: u64) -> Vec<ActionRow> {
        let switches = if stock {
            self.rng.between(4, 6)
        } else {
            self.rng.between(0, 3)
        };
        let checkpoints = self.rng.between(0, 4);
        let mut rows = Vec::new();
        let end_us = active_us * 9 / 10;
        for n in 0..switches {
            // The switches are spread over the run, because a switch directly after another switch
            // has no effect.
            let slot_us = end_us / switches;
            let when = When::At(self.between_ms(n * slot_us + slot_us / 4, (n + 1) * slot_us));
            rows.push(ActionRow {
                when,
                action: sql(Statement::SwitchWal),
            });
        }
        for _ in 0..checkpoints {
            let when = When::At(self.between_ms(200 * MS, end_us));
            rows.push(ActionRow {
                when,
                action: sql(Statement::Checkpoint),
            });
        }
        rows
    }
}

/// A statement for the primary.
const fn sql(statement: Statement) -> Action {
    Action::Sql { node: 0, statement }
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).expect("a few seconds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Fault, FaultRow};

    #[test]
    fn plans_have_what_a_campaign_relies_on() {
        let (mut stock, mut faults) = (0, 0);
        for seed in 0..500 {
            let plan = generate(Profile::Default, seed);
            let geometry = plan.nodes[0].settings.geometry;
            stock += u32::from(geometry == Geometry::STOCK);
            let stall = |row: &&FaultRow| matches!(row.fault, Fault::Stall { .. });
            faults += plan.faults.len() - plan.faults.iter().filter(stall).count();
            let Geometry {
                wal_page,
                segment,
                data_page,
                sector,
            } = geometry;
            Geometry::new(wal_page, segment, data_page, sector).expect("a legal geometry");
            assert!((2..=4).contains(&plan.nodes.len()));
            assert!(plan.nodes.iter().all(|n| n.settings.geometry == geometry));
            let commits = plan.workload.iter().map(commits_of);
            assert!(commits.sum::<u32>() >= LEAST_COMMITS, "seed {seed}");
            let fits = |row: &WorkloadRow| row.bytes <= longest_row(&geometry);
            assert!(plan.workload.iter().all(fits), "seed {seed}");
        }
        assert!(
            (200..300).contains(&stock),
            "{stock} of 500 have stock geometry"
        );
        assert!(
            (1550..1850).contains(&faults),
            "{faults} faults in 500 plans"
        );
    }

    #[test]
    fn the_faultless_profile_differs_in_faults_alone() {
        for seed in 0..50 {
            let mut with = generate(Profile::Default, seed);
            with.faults.clear();
            with.name = String::from("faultless");
            assert_eq!(with, generate(Profile::Faultless, seed));
        }
    }

    #[test]
    fn what_is_fixed_leaves_the_rest() {
        let plan = generate(Profile::Default, 3);
        let version = Some(PgVersion::V15);
        let fixed = generate_with(
            Profile::Default,
            3,
            Fixed {
                version,
                ..Fixed::default()
            },
        );
        assert!(
            fixed
                .nodes
                .iter()
                .all(|n| n.settings.pg_version == PgVersion::V15)
        );
        assert_eq!((plan.workload, plan.faults), (fixed.workload, fixed.faults));
        let stock = Fixed {
            stock: Some(true),
            ..Fixed::default()
        };
        let fixed = generate_with(Profile::Default, 3, stock);
        assert_eq!(fixed.nodes[0].settings.geometry, Geometry::STOCK);
    }

    fn commits_of(row: &WorkloadRow) -> u32 {
        let rolled_back = match row.rollback_every {
            0 => 0,
            every => row.transactions / every,
        };
        row.transactions - rolled_back
    }
}
