//! Records, headers and topics: the serialised twins of domain values.
