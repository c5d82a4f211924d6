//! What is being recorded: a command of ours, or processes that ran before.

use std::process::Child;

use crate::attach::Attached;
use crate::error::AttachProblem;
use crate::terminal::Loan;
use crate::wait::{ChildState, Ended, look, try_wait};

/// What is being recorded.
pub(crate) enum Subject {
    /// A child that we started.
    Command {
        /// The child.
        child: Child,
        /// How it ended.
        ended: Option<Ended>,
        /// The terminal, while it has that.
        loan: Option<Loan>,
    },
    /// Processes with dormant recorders; none once they have been let go.
    Attached(Option<Attached>),
}

impl Subject {
    pub(crate) fn command(child: Child) -> Self {
        Self::Command { child, ended: None, loan: None }
    }

    /// The process id of the one to stop, and to wait for: the child's.
    pub(crate) fn child_id(&self) -> Option<u32> {
        match self {
            Self::Command { child, .. } => Some(child.id()),
            Self::Attached(_) => None,
        }
    }

    /// The process that the recording is of.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Command { child, .. } => Some(child.id()),
            Self::Attached(attached) => attached.as_ref().map(Attached::pid),
        }
    }

    /// How the child ended.
    pub(crate) fn ended(&self) -> Option<Ended> {
        match self {
            Self::Command { ended, .. } => *ended,
            Self::Attached(_) => None,
        }
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Command { ended, .. } => ended.is_some(),
            Self::Attached(attached) => !attached.as_ref().is_some_and(Attached::is_running),
        }
    }

    /// Whether it has the terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        matches!(self, Self::Command { loan: Some(_), .. })
    }

    /// Notices a child's end, or that it waits for the terminal, which it gets.
    pub(crate) fn look_at_child(&mut self) {
        let Self::Command { child, ended, loan } = self else { return };
        if ended.is_some() {
            return;
        }
        match look(child.id()) {
            ChildState::Running => {}
            ChildState::WantsTerminal => *loan = Loan::to(child.id()),
            ChildState::Ended(end) => {
                *ended = Some(end);
                *loan = None;
            }
        }
    }

    /// Lets new descendants of attached processes record as well.
    pub(crate) fn look_at_processes(&mut self) -> Result<(), AttachProblem> {
        match self {
            Self::Attached(Some(attached)) => attached.look(),
            _ => Ok(()),
        }
    }

    /// Notices the child's end.
    pub(crate) fn try_wait(&mut self) -> bool {
        if let Self::Command { child, ended, .. } = self
            && ended.is_none()
        {
            *ended = try_wait(child.id());
        }
        self.is_over()
    }

    /// Lets attached processes go on without us.
    pub(crate) fn let_go(&mut self) {
        if let Self::Attached(attached) = self {
            attached.take();
        }
    }
}
