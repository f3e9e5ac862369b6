//! The promises of `SECURITY.md`, each as a test of its number and name; the table there names the tests of the others.

mod concurrency;
mod determinism;
mod importing;
mod loading;
mod model;
mod sources;
mod terminal;
mod writing;
