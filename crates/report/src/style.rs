//! The report's look, for other pages of ours.

/// The style sheets that are about documents in general, in order: colours and faces, text,
/// the head of the page, rows of figures.
pub const STYLE_SHEETS: [&str; 4] = [
    include_str!("../web/src/style/tokens.css"),
    include_str!("../web/src/style/base.css"),
    include_str!("../web/src/style/masthead.css"),
    include_str!("../web/src/style/facts.css"),
];
