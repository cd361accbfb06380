//! Taking code out, and what happens to those who run it, call it, or return to it.

mod forms;
mod relink;
mod rig;
mod room;
mod stack;
mod threads;
