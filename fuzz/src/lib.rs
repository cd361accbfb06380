//! A generator of valid IL and the differential check between interpreter and native code.
#![forbid(unsafe_code)]
