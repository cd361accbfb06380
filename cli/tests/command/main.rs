//! The `dagwood` command from outside: what it prints, and with which exit code it ends.

mod check;
mod compile;
mod files;
mod limits;
mod olive;
mod opt;
mod rig;
mod run;
mod system;
mod usage;
