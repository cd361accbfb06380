//! When nobody runs, returns to or has looked up code that was taken out.
//!
//! [`domain`] knows who may run code and since when; [`quarantine`] keeps what was taken out until two grace periods are over. Both
//! are compiled a second time by model tests, against a model of the machine.

pub(crate) mod domain;
pub(crate) mod quarantine;
