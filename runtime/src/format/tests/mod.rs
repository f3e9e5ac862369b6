//! Tests of the file format.

mod damage;
pub(super) mod fixture;
mod hostile;
mod properties;
mod round_trip;
mod vector;
