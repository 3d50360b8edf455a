//! Lists the cases that fail with the present code. A case leaves the list when it is fixed.

/// Names of known cases. A name that ends in `/*` covers all acts of a place, none of which passes.
pub const KNOWN: &[&str] = &[];
