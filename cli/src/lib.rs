//! The one binary: every role and every command.
