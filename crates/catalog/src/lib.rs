//! Which endpoints there are, folded from the endpoints topic.
