//! The page of the options says what the table in the code says.

use heapwright_malloc::{OPTIONS, OptionKind};

#[test]
fn the_page_has_the_table_of_the_code() {
    let page = include_str!("../../../docs/design/heaps.md");
    let mut table = String::from(
        "| option | variable | value | at run time | what it does |\n|---|---|---|---|---|\n",
    );
    for row in &OPTIONS {
        let value = match row.kind {
            OptionKind::Bytes => "bytes, `none`",
            OptionKind::Switch => "0, 1",
        };
        let changes = if row.is_changeable { "yes" } else { "no" };
        table += &format!(
            "| `{}` | `{}` | {value} | {changes} | {} |\n",
            row.name, row.variable, row.text
        );
    }
    assert!(page.contains(&table), "docs/design/heaps.md needs this table:\n{table}");
}
