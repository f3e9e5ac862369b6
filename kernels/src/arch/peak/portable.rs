//! For targets without loops in assembly: none, since the compiler's own loop would be no bound for a kernel.

use super::Loop;
use crate::{Arithmetic, Isa};

/// No loop.
pub(super) fn find(_: Isa, _: Arithmetic) -> Option<Loop> {
    None
}
