//! One test binary over the whole product: each module is a theme.

mod tidy;
