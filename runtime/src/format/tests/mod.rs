//! Tests of the file format.

mod damage;
mod fixture;
mod hostile;
mod properties;
mod reader;
mod round_trip;
mod vector;
