//! How a person reads a record: one line as Postfix readers know it.
