//! What the measured programs work on, made anew for each run of the suite: the same bytes on
//! every machine.

use std::fmt::Write;

/// A Python script of JSON and dictionary work; `rounds` times some 90 k allocations.
pub(crate) fn python_script(rounds: u32) -> String {
    format!(
        "import json\n\
         def make(n):\n\
        \x20   return [{{'id': i, 'name': 'user %d' % i, 'tags': ['t%d' % (i * k % 97) for k in range(4)],\n\
        \x20            'score': i * 0.37, 'nested': {{'a': i, 'b': [i, i + 1, str(i)]}}}} for i in range(n)]\n\
         total = 0\n\
         kept = {{}}\n\
         for round in range({rounds}):\n\
        \x20   rows = make(1500)\n\
        \x20   text = json.dumps(rows)\n\
        \x20   back = json.loads(text)\n\
        \x20   for row in back:\n\
        \x20       kept['%d/%s' % (round % 7, row['name'])] = row\n\
        \x20   by_tag = {{}}\n\
        \x20   for row in back:\n\
        \x20       for tag in row['tags']:\n\
        \x20           by_tag.setdefault(tag, []).append(row['id'])\n\
        \x20   total += sum(len(ids) for ids in by_tag.values()) + len(text)\n\
         print(total, len(kept))\n"
    )
}

/// SQL text: a table with an index, `rows` inserts, each its own statement, and some selects.
pub(crate) fn sql_script(rows: u32) -> String {
    let mut sql = String::from(
        "create table t(id integer primary key, name text, value real, k integer);\n\
         create index t_k on t(k);\nbegin;\n",
    );
    for row in 0..u64::from(rows) {
        let name = row * 7919 % 100_003;
        let (whole, part, k) = (row * 37 / 100, row * 37 % 100, row * 31 % 9973);
        // Writing into a string cannot fail.
        let _ = writeln!(
            sql,
            "insert into t values({row},'name {name} of a row',{whole}.{part:02},{k});"
        );
        if row % 50 == 0 {
            let _ = writeln!(sql, "select count(*), max(value) from t where k = {k};");
        }
    }
    sql.push_str(
        "commit;\nselect k % 10, count(*), avg(value) from t group by 1;\n\
         select name from t order by name limit 3;\n",
    );
    sql
}

/// SQL text: the table of [`sql_script`], filled with `rows` rows by one query, then read and
/// changed in whole.
pub(crate) fn sql_query(rows: u32) -> String {
    format!(
        "create table t(id integer primary key, name text, value real, k integer);\n\
         create index t_k on t(k);\n\
         with recursive n(i) as (select 0 union all select i + 1 from n where i < {rows} - 1)\n\
         insert into t select i, 'name ' || (i * 7919 % 100003) || ' of a row', i * 0.37,\n\
         i * 31 % 9973 from n;\n\
         update t set value = value + 1 where k % 3 = 0;\n\
         select k % 10, count(*), avg(value) from t group by 1;\n\
         select name from t order by name limit 3;\n"
    )
}

/// A C file of `functions` pairs of functions, each with a type of its own.
pub(crate) fn c_file(functions: u32) -> String {
    let mut text = String::from("#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\n");
    for i in 0..functions {
        let bytes = i % 31 + 1;
        let factor = i + 3;
        let _ = write!(
            text,
            "struct s{i} {{ int a; double b; char c[{bytes}]; struct s{i} *next; }};
static int walk{i}(struct s{i} *s, int n) {{
    int t = 0;
    for (int k = 0; k < n; k++) {{
        switch ((k * {factor}) % 7) {{
        case 0: t += s->a * k; break;
        case 1: t ^= (int)(s->b * {i}.5); break;
        case 2: t -= s->c[k % {bytes}]; break;
        default:
            if (s->next) {{ t += s->next->a; s = s->next; }} else t *= 3;
        }}
    }}
    return t;
}}
int run{i}(int n) {{
    struct s{i} *s = calloc(1, sizeof *s);
    s->a = n; s->b = n / 3.0;
    snprintf(s->c, sizeof s->c, \"%d\", n);
    int t = walk{i}(s, n);
    free(s);
    return t;
}}
"
        );
    }
    text
}

/// A C++ file of `functions` functions, each instantiating standard templates for its own type.
pub(crate) fn cpp_file(functions: u32) -> String {
    let mut text = String::new();
    for header in ["algorithm", "functional", "map", "memory", "string", "unordered_map", "vector"]
    {
        let _ = writeln!(text, "#include <{header}>");
    }
    for i in 0..functions {
        let _ = write!(
            text,
            "struct k{i} {{ int v; bool operator<(const k{i}& o) const {{ return v < o.v; }} }};
int run{i}(int n) {{
    std::map<k{i}, std::vector<std::string>> m;
    for (int j = 0; j < n; ++j) m[k{i}{{j % 17}}].push_back(std::to_string(j));
    std::vector<k{i}> v;
    for (auto& e : m) v.push_back(e.first);
    std::sort(v.begin(), v.end());
    std::function<int(int)> g = [&](int q) {{ return (int)m[k{i}{{q}}].size(); }};
    auto p = std::make_shared<std::unordered_map<int, k{i}>>();
    (*p)[n] = v.front();
    return g(n % 17) + (int)p->size();
}}
"
        );
    }
    text
}

/// A C program that allocates and frees 64 bytes as often as its argument says.
pub(crate) const LOOP_C: &str = "\
#include <stdlib.h>
int main(int argc, char **argv) {
    long n = argc > 1 ? atol(argv[1]) : 1000;
    for (long i = 0; i < n; i++) {
        void *volatile p = malloc(64);
        free(p);
    }
    return 0;
}
";

#[cfg(test)]
mod tests {
    use super::{c_file, cpp_file, python_script, sql_query, sql_script};

    #[test]
    fn inputs_grow_with_their_scale() {
        assert_eq!(sql_script(100).matches("insert into").count(), 100);
        assert_eq!(sql_script(100).matches("select count").count(), 2);
        assert!(sql_query(700).contains("i < 700 - 1"));
        assert_eq!(c_file(3).matches("int run").count(), 3);
        assert_eq!(cpp_file(4).matches("int run").count(), 4);
        assert!(python_script(12).contains("range(12)"));
    }
}
