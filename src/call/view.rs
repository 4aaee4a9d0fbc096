//! What reducers know besides their state: the legs, and how long things may take.

use std::time::Duration;

use super::place::Errand;
use super::{Action, LegNo, route};

/// What reducers know besides their state.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What the call is for.
    pub target: &'a route::Target,
    /// A call ends after this long.
    pub max_duration: Duration,
    /// Somebody who is parked waits this long.
    pub park_for: Duration,
    /// How often somebody in it was handed over to an agent or a program.
    pub handovers: usize,
    /// The legs; one that has just ended is still among them.
    pub legs: &'a [LegView],
}

/// What reducers know of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegView {
    /// Its number.
    pub no: LegNo,
    /// Who called whom.
    pub role: Role,
    /// How far it has come towards its end.
    pub stage: Stage,
    /// Its answer was given and, where it is ours, acknowledged.
    pub is_up: bool,
    /// Its peer has put the call on hold.
    pub holds: bool,
    /// What it came from another call for.
    pub errand: Option<Errand>,
}

impl LegView {
    /// A caller's leg that is not answered yet.
    #[must_use]
    pub const fn caller(no: LegNo) -> Self {
        Self { no, role: Role::Caller, stage: Stage::Here, is_up: false, holds: false, errand: None }
    }
}

/// How far a leg has come towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is being placed, rings, or is up.
    Here,
    /// It was told to end and has not confirmed that yet.
    Going,
    /// Its dialog is over.
    Over,
}

/// Who called whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// This side called us.
    Caller,
    /// We called this side.
    Callee,
}

impl View<'_> {
    /// On whose side this leg is: the caller's, or that of whoever was called, or has come for them from another call.
    #[must_use]
    pub fn side(&self, no: LegNo) -> Role {
        let leg = self.legs.iter().find(|leg| leg.no == no);
        leg.map_or(Role::Caller, |leg| if leg.errand.is_some() { Role::Callee } else { leg.role })
    }

    /// The number that the next leg may have.
    #[must_use]
    pub fn next_leg(&self) -> LegNo {
        let own = self.legs.iter().filter(|leg| leg.no < LegNo::ADOPTED);
        own.map(|leg| leg.no.next()).max().unwrap_or(LegNo::FIRST)
    }

    /// Whether the leg is up.
    #[must_use]
    pub fn is_up(&self, no: LegNo) -> bool {
        self.legs.iter().any(|leg| leg.no == no && leg.is_up)
    }

    /// Whether the leg's peer has put the call on hold.
    #[must_use]
    pub fn holds(&self, no: LegNo) -> bool {
        self.legs.iter().any(|leg| leg.no == no && leg.holds)
    }

    /// What the leg came from another call for.
    #[must_use]
    pub fn errand(&self, no: LegNo) -> Option<Errand> {
        self.legs.iter().find(|leg| leg.no == no).and_then(|leg| leg.errand)
    }

    /// The legs that stay and for whose sake the call goes on: all but supervisors'.
    pub fn parties(&self) -> impl Iterator<Item = LegNo> + '_ {
        self.staying().filter(|leg| !self.supervises(*leg))
    }

    /// Whether the leg came to supervise.
    #[must_use]
    pub fn supervises(&self, no: LegNo) -> bool {
        matches!(self.errand(no), Some(Errand::Watch(_)))
    }

    /// Supervisors' legs that stay.
    pub fn supervisors(&self) -> impl Iterator<Item = LegNo> + '_ {
        self.staying().filter(|leg| self.supervises(*leg))
    }

    /// Lets go of a leg that has come in vain.
    #[must_use]
    pub fn turn_away(&self, no: LegNo, code: u16) -> Action {
        if self.is_up(no) { Action::HangUp(no, None) } else { Action::Reject(no, code) }
    }

    /// A view for tests.
    #[cfg(test)]
    #[must_use]
    pub fn of<'a>(target: &'a route::Target, legs: &'a [LegView]) -> View<'a> {
        let minute = Duration::from_secs(60);
        View { target, max_duration: minute, park_for: minute, handovers: 0, legs }
    }

    /// The legs that were not told to end, and have not.
    pub fn staying(&self) -> impl Iterator<Item = LegNo> + '_ {
        self.legs.iter().filter(|leg| leg.stage == Stage::Here).map(|leg| leg.no)
    }
}
