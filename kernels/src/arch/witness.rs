//! Which micro-kernels have run: how tests see that a forced instruction set is more than a name.
//!
//! Micro-kernels note themselves from inside the function that holds their instructions, in test builds only. A dispatch that
//! fell back to other kernels, or a token that hands work to another's without saying so, is seen by what did not run.

/// Notes, in test builds, that the function around it has run on this thread.
macro_rules! ran {
    ($kernel:expr) => {
        #[cfg(test)]
        $crate::arch::witness::note($kernel);
    };
}
pub(crate) use ran;

#[cfg(test)]
pub(crate) use notes::{note, take};

#[cfg(test)]
mod notes {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static RAN: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Notes the name of a function.
    pub(crate) fn note(name: &'static str) {
        RAN.with_borrow_mut(|ran| ran.insert(name));
    }

    /// The names noted on this thread since the last call, in alphabetical order.
    pub(crate) fn take() -> Vec<&'static str> {
        RAN.take().into_iter().collect()
    }
}
