//! Executable memory near the program: chunks that are never writable and executable in one mapping.

