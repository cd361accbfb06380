//! The bottom of the runtime, tried with machine code assembled by hand.

mod asm;
mod enter;
mod fault;
mod install;
mod raise;
mod rig;
mod stack;
