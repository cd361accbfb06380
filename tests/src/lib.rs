//! Dagwood's text-test runner and conformance suites.
#![forbid(unsafe_code)]
