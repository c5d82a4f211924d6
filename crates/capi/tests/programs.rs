//! Real programs under the object, with what they say compared with what they say without it.
//!
//! The long tier `cargo xtask test --tier programs`: minutes. A program that this machine lacks is
//! named and left out. `--tier compact` runs them in mode compact, merging forced each 10 ms.

mod built;

use built::{directory, subject};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Starts a command under the object, or plainly.
fn command(program: &str, is_under_ours: bool) -> Command {
    let mut command = Command::new(program);
    command.env_remove("LD_PRELOAD").stdin(Stdio::null());
    if is_under_ours {
        command.env("LD_PRELOAD", subject());
    }
    command
}

/// Whether the machine has `program`; says so if not.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|place| place.join(program).is_file());
    if !found {
        eprintln!("left out: {program} is not installed");
    }
    found
}

/// Runs `program` both ways: status and stdout must agree, and the status be 0.
#[track_caller]
fn same(program: &str, prepare: impl Fn(&mut Command)) -> Vec<u8> {
    let run = |is_under_ours| -> Output {
        let mut command = command(program, is_under_ours);
        prepare(&mut command);
        command.output().expect("it starts")
    };
    let (plain, ours) = (run(false), run(true));
    let complaint = String::from_utf8_lossy(&ours.stderr);
    assert!(plain.status.success(), "without us: {}", String::from_utf8_lossy(&plain.stderr));
    assert_eq!(ours.status, plain.status, "{complaint}");
    assert!(ours.stdout == plain.stdout, "other output: {complaint}");
    assert!(!complaint.contains("heapwright:"), "{complaint}");
    ours.stdout
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = directory().join(name);
    fs::write(&path, text).expect("written");
    path
}

/// The lines of a run of Python's test suite that say which files failed and how many passed.
fn python_verdict(tests: &[&str], settings: &[(&str, &str)], is_under_ours: bool) -> Vec<String> {
    let mut command = command("python3", is_under_ours);
    command.args(["-m", "test", "-q"]).args(tests).current_dir(directory());
    command.envs(settings.iter().copied());
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let telling = ["tests OK", "test OK", "failed:", "skipped:", "altered", "Result:", "result:"];
    let mut lines: Vec<String> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| {
            telling.iter().any(|word| line.contains(word)) || line.starts_with("    test_")
        })
        .map(|(_, line)| line.to_owned())
        .collect();
    lines.push(format!("status {:?}", output.status.code()));
    lines
}

#[track_caller]
fn python_agrees(tests: &[&str], settings: &[(&str, &str)]) {
    if !has("python3") {
        return;
    }
    let (plain, ours) =
        (python_verdict(tests, settings, false), python_verdict(tests, settings, true));
    assert!(plain.len() > 1, "python3 has no test suite here: {plain:?}");
    assert_eq!(ours, plain);
    println!("{}", ours.join("\n"));
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_python_data() {
    python_agrees(
        &[
            "test_dict",
            "test_list",
            "test_set",
            "test_str",
            "test_bytes",
            "test_re",
            "test_json",
            "test_collections",
            "test_deque",
            "test_itertools",
            "test_array",
            "test_memoryview",
            "test_struct",
            "test_pickle",
            "test_zlib",
            "test_sqlite3",
            "test_xml_etree",
            "test_unicodedata",
            "test_decimal",
            "test_heapq",
            "test_sort",
            "test_long",
            "test_float",
            "test_io",
        ],
        &[],
    );
}

/// Files of Python's own test suite that take a minute and a half together and need no network.
const LIBRARY_TESTS: &str = "\
    test_abc test_argparse test_ast test_asyncio.test_queues test_base64 test_bisect test_bool \
    test_bytes test_bz2 test_calendar test_class test_cmath test_codecs test_compile \
    test_complex test_configparser test_contextlib test_copy test_csv test_dataclasses \
    test_datetime test_defaultdict test_descr test_difflib test_dis test_email test_enum \
    test_exceptions test_fileio test_format test_fractions test_frozen test_fstring \
    test_functools test_generators test_glob test_grammar test_gzip test_hashlib test_hmac \
    test_html test_htmlparser test_inspect test_int test_iter test_keyword test_lzma test_math \
    test_minidom test_ordered_dict test_pathlib test_plistlib test_pprint test_property \
    test_random test_range test_richcmp test_sax test_scope test_shelve test_shlex test_slice \
    test_statistics test_string test_super test_symtable test_tarfile test_tempfile \
    test_textwrap test_tokenize test_traceback test_tuple test_types test_typing test_unicode \
    test_unpack test_urlparse test_userdict test_uuid test_with test_xml_etree_c test_yield_from \
    test_zipfile test_zipimport";

/// Python's library, each of its objects a block of ours.
#[test]
#[ignore = "long tier: programs"]
fn tier_programs_python_library() {
    let tests: Vec<&str> = LIBRARY_TESTS.split_whitespace().collect();
    assert!(tests.len() >= 60, "{} files", tests.len());
    python_agrees(&tests, &[("PYTHONMALLOC", "malloc")]);
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_python_processes() {
    python_agrees(
        &[
            "test_gc",
            "test_threading",
            "test_thread",
            "test_subprocess",
            "test_fork1",
            "test_ctypes",
            "test_mmap",
            "test_weakref",
            "test_importlib",
            "test_embed",
            "test_signal",
            "test_os",
            "test_multiprocessing_main_handling",
            "test_queue",
            "test_capi",
        ],
        &[],
    );
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_sqlite() {
    if !has("sqlite3") {
        return;
    }
    let mut sql = String::from("create table t(id integer primary key, k int, name text);\n");
    sql += "create index t_k on t(k);\nbegin;\n";
    for i in 0..60_000_u64 {
        sql +=
            &format!("insert into t values({i},{},'name {}');\n", i * 31 % 997, i * 7919 % 10007);
    }
    sql += "commit;\ndelete from t where k % 3 = 0;\nupdate t set name = name || k where id % 5 = 0;\n\
            select k, count(*), max(name) from t group by k order by 2, 1;\n\
            with recursive c(x) as (select 1 union all select x + 1 from c where x < 200000) \
            select sum(x), group_concat(x % 10) from c;\n\
            select a.id, b.name from t a join t b on a.k = b.k where a.id < 40 order by 1, 2;\n\
            select json_group_array(name) from t where id < 3000;\nvacuum;\npragma integrity_check;\n";
    let script = file("work.sql", &sql);
    let said = same("sqlite3", |command| {
        command.arg(":memory:").arg(format!(".read {}", script.display()));
    });
    assert!(said.ends_with(b"ok\n"));
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_perl() {
    if !has("perl") {
        return;
    }
    let script = "use strict; use threads; use Encode; my %h; \
        $h{join ',', map { $_ * 7 % 101 } 1 .. $_ % 9} .= \"x$_\" for 1 .. 40000; \
        my @parts = map { my $n = $_; threads->create(sub { my $s = ''; \
            $s .= chr(0x100 + $_ % 500) for 1 .. 20000 * $n; length encode('UTF-8', $s) }) } 1 .. 4; \
        print join(' ', map { $_->join } @parts), \"\\n\"; \
        my $t = join '|', map { \"$_=$h{$_}\" } sort keys %h; \
        $t =~ s/(\\d+)x/<$1>/g; print length($t), ' ', unpack('%32C*', $t), \"\\n\"; \
        local $SIG{CHLD} = 'DEFAULT'; print `echo from a child`;";
    same("perl", |command| {
        command.args(["-e", script]);
    });
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_git() {
    if !has("git") {
        return;
    }
    let work = directory().join("repository");
    let made = format!(
        "set -e; rm -rf '{0}'; mkdir -p '{0}'; cd '{0}'; git init -q .; \
         git config user.email a@b; git config user.name n; git config gc.auto 0; \
         export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'; \
         for i in $(seq 1 60); do for j in $(seq 1 20); do \
         seq $i $((i * j)) > file$j; done; git add -A; git commit -qm \"change $i\"; done; \
         git repack -adfq --threads=2 --depth=20; git gc -q --aggressive; git fsck --full --strict; \
         git log --stat | cksum; git rev-list --objects --all | wc -l; git blame file7 | cksum; \
         rm -rf '{0}.clone'; git clone -q '{0}' '{0}.clone'; git -C '{0}.clone' rev-parse HEAD; \
         git log -p --word-diff | cksum; git grep -c 777 | cksum",
        work.display()
    );
    same("sh", |command| {
        command.args(["-c", &made]);
    });
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_compilers() {
    let source = "#include <map>\n#include <regex>\n#include <string>\n#include <vector>\n\
        #include <functional>\n#include <algorithm>\n\
        int main(int n, char **a) { std::map<std::string, std::vector<int>> m; \
        std::regex r(\"a+b\"); for (int i = 0; i < n; i++) m[a[i]].push_back(i); \
        std::function<int(int)> f = [&](int x) { return x ? f(x - 1) + x : 0; }; \
        return std::regex_match(a[0], r) + f(n) + (int)m.size(); }\n";
    let source = file("big.cpp", source);
    for compiler in ["g++", "clang++"].into_iter().filter(|name| has(name)) {
        for level in ["-O0", "-O2"] {
            let assembly = same(compiler, |command| {
                command.args([level, "-S", "-o", "-"]).arg(&source);
            });
            assert!(assembly.len() > 100_000, "{compiler} {level}: {}", assembly.len());
        }
    }
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_node() {
    if !has("node") {
        return;
    }
    let script = file(
        "work.js",
        "const { Worker, isMainThread, parentPort } = require('worker_threads');
const zlib = require('zlib'), crypto = require('crypto');
function work(seed) {
  const rows = [];
  for (let i = 0; i < 20000; i++) rows.push({ id: i * seed, name: 'n' + (i * 7 % 101), b: Buffer.alloc(i % 300, i) });
  const text = JSON.stringify(rows.map(r => [r.id, r.name, r.b.length]));
  const packed = zlib.deflateSync(text);
  return crypto.createHash('sha256').update(zlib.inflateSync(packed)).digest('hex');
}
if (!isMainThread) parentPort.postMessage(work(3));
else {
  const all = [1, 2, 3, 4].map(() => new Promise(ok => new Worker(__filename).on('message', ok)));
  Promise.all(all).then(found => console.log(work(1), found.join(' ')));
}
",
    );
    same("node", |command| {
        command.arg(&script);
    });
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_jvm() {
    if !has("java") {
        return;
    }
    let source = file(
        "Work.java",
        "import java.util.*; import java.util.stream.*; import java.nio.*;
public class Work {
  public static void main(String[] a) throws Exception {
    List<Thread> threads = new ArrayList<>(); long[] sums = new long[4];
    for (int t = 0; t < 4; t++) { final int n = t; Thread th = new Thread(() -> {
      for (int i = 0; i < 300; i++) { ByteBuffer b = ByteBuffer.allocateDirect(10000 + i);
        for (int k = 0; k < b.capacity(); k += 7) b.put(k, (byte) (k * n)); sums[n] += b.get(70); } });
      threads.add(th); th.start(); }
    for (Thread t : threads) t.join();
    Map<String, List<Integer>> m = IntStream.range(0, 200000).boxed()
      .collect(Collectors.groupingBy(i -> \"k\" + i % 997));
    java.util.zip.Deflater d = new java.util.zip.Deflater(); d.setInput(m.toString().getBytes()); d.finish();
    byte[] out = new byte[10000000]; System.out.println(Arrays.toString(sums) + m.size() + \" \" + d.deflate(out));
  }
}
",
    );
    same("java", |command| {
        command.arg(&source);
    });
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_chromium() {
    if !has("chromium") {
        return;
    }
    let page = file(
        "page.html",
        "<!doctype html><p id=p>before</p><script>
let o = {}; for (let i = 0; i < 50000; i++) o['k' + i % 777] = (o['k' + i % 777] || '') + i;
let n = 0; for (const k in o) n += o[k].length;
document.getElementById('p').textContent = 'after ' + n + ' ' + Object.keys(o).length;
</script>",
    );
    let profile = directory().join("profile");
    let said = same("chromium", |command| {
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        command.arg(format!("file://{}", page.display()));
    });
    assert!(String::from_utf8_lossy(&said).contains("after 238890 777"));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A server that is stopped with all its workers when its test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

fn served(command: &mut Command, port: u16) -> Server {
    command.stdout(Stdio::null()).process_group(0);
    let server = Server(command.spawn().expect("it starts"));
    for _ in 0..400 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return server;
        }
        sleep(Duration::from_millis(25));
    }
    panic!("the server does not listen");
}

/// What a redis-server holds and says after every kind of command.
fn redis_digest(is_under_ours: bool) -> String {
    let port = free_port();
    let mut command = command("redis-server", is_under_ours);
    let words = ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"];
    command.args(["--port", &port.to_string()]).args(words).current_dir(directory());
    let server = served(&mut command, port);
    let benchmark = Command::new("redis-benchmark")
        .args(["-p", &port.to_string(), "-n", "30000", "-P", "16", "-r", "5000", "-q"])
        .output()
        .expect("redis-benchmark");
    assert!(benchmark.status.success(), "{benchmark:?}");
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let mut say = |text: &str| connection.write_all(text.as_bytes()).expect("it reads");
    say("flushall\r\n");
    for i in 0..3000_u32 {
        say(&format!("set key:{i} {}\r\n", "v".repeat((i % 700) as usize + 1)));
        say(&format!("hset hash:{} f{i} {i}\r\nzadd z:{} {i} m{i}\r\n", i % 50, i % 7));
        say(&format!("rpush list:{} {i}\r\nsadd s:{} {i}\r\nappend text x{i}\r\n", i % 9, i % 11));
        say(&format!("xadd stream {} a {i}\r\nexpire key:{} 10000\r\n", i + 1, i * 3));
    }
    say("memory purge\r\nbgrewriteaof\r\ndebug digest\r\n");
    let answers = BufReader::new(&connection).lines().map_while(Result::ok);
    let mut digests = answers.filter(|line| line.starts_with('+') && line.len() == 41);
    let digest = digests.next().expect("a digest");
    drop(server);
    digest
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_redis() {
    if has("redis-server") && has("redis-benchmark") {
        assert_eq!(redis_digest(true), redis_digest(false));
    }
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_nginx_under_wrk() {
    if !has("wrk") || !Path::new("/usr/sbin/nginx").exists() {
        return eprintln!("left out: nginx or wrk is not installed");
    }
    let port = free_port();
    let root = directory().join("www");
    fs::create_dir_all(&root).expect("a directory");
    fs::write(root.join("page.txt"), "0123456789".repeat(2000)).expect("written");
    let text = format!(
        "worker_processes 2; daemon off; pid {0}/pid; error_log {0}/error; \
         events {{ worker_connections 256; }} \
         http {{ access_log off; client_body_temp_path {0}/a; proxy_temp_path {0}/b; \
         fastcgi_temp_path {0}/c; uwsgi_temp_path {0}/d; scgi_temp_path {0}/e; gzip on; \
         gzip_types text/plain; server {{ listen 127.0.0.1:{port}; root {0}; \
         location /made {{ return 200 \"made\"; }} }} }}",
        root.display()
    );
    let configuration = file("nginx.conf", &text);
    for place in [directory(), &root] {
        fs::set_permissions(place, fs::Permissions::from_mode(0o755)).expect("the mode");
    }
    let mut command = command("/usr/sbin/nginx", true);
    let server = served(command.arg("-c").arg(&configuration), port);
    for page in ["page.txt", "made"] {
        let url = format!("http://127.0.0.1:{port}/{page}");
        let mut wrk = Command::new("wrk");
        wrk.args(["-t2", "-c40", "-d3s", "-H", "Accept-Encoding: gzip", &url]);
        let output = wrk.output().expect("wrk");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("requests in"), "{said}");
        assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    }
    drop(server);
    let log = fs::read_to_string(root.join("error")).unwrap_or_default();
    assert!(!log.contains("exited on signal"), "{log}");
}

/// Has the shell script `script` run as a user that PostgreSQL accepts, who owns `home`.
fn as_postgres(home: &std::path::Path, script: &str) -> Command {
    // Only root can change the user.
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = Command::new(if is_root { "setpriv" } else { "sh" });
    if is_root {
        let chown = Command::new("chown").args(["-R", "postgres"]).arg(home).status();
        assert!(chown.expect("chown").success());
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
    }
    command.arg("-c").arg(script).env_remove("LD_PRELOAD").stdin(Stdio::null());
    command
}

#[test]
#[ignore = "long tier: programs"]
fn tier_programs_postgres() {
    if !has("initdb") || !has("pgbench") {
        return;
    }
    let home = directory().join("postgres");
    fs::create_dir_all(&home).expect("a directory");
    // It refuses to run as root, and its user must be able to read the object.
    let copy = home.join("libheapwright_subject.so");
    fs::copy(subject(), &copy).expect("copied");
    fs::set_permissions(directory(), fs::Permissions::from_mode(0o755)).expect("the mode");
    let script = format!(
        "set -e; cd '{0}'; rm -rf data; initdb -D data -A trust >/dev/null; \
         echo \"unix_socket_directories = '{0}'\" >> data/postgresql.conf; \
         pg_ctl -D data -w -o '-h \"\" -c fsync=off' -l log start >/dev/null; \
         pgbench -h '{0}' -i -s 2 postgres >/dev/null 2>&1; \
         pgbench -h '{0}' -c 4 -j 2 -t 500 postgres | grep 'actually processed'; \
         psql -h '{0}' postgres -Atc \"select count(*), sum(aid) from pgbench_accounts; \
           select md5(string_agg(x::text, ',' order by x)) from generate_series(1, 200000) x\"; \
         pg_ctl -D data -w -m fast stop >/dev/null; ! grep -E 'signal|PANIC|heapwright' log",
        home.display()
    );
    let run = |is_under_ours: bool| {
        let preload = if is_under_ours { copy.display().to_string() } else { String::new() };
        let mut command = as_postgres(&home, &script);
        if is_under_ours {
            command.env("LD_PRELOAD", preload);
        }
        command.output().expect("it starts")
    };
    let (plain, ours) = (run(false), run(true));
    assert!(plain.status.success(), "{plain:?}");
    assert!(ours.status.success(), "{}", String::from_utf8_lossy(&ours.stderr));
    assert_eq!(String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&plain.stdout));
}

/// PostgreSQL's own regression suite, its server under the object: the plain server passes, and so
/// does this one. `HEAPWRIGHT_POSTGRES_REGRESS` names `src/test/regress` of the sources of the
/// installed release, with `regress.so`, `refint.so` and `autoinc.so` built there (`make
/// regress.so autoinc.so refint.so`).
#[test]
#[ignore = "long tier: programs"]
fn tier_programs_postgres_regression() {
    let suite = std::env::var_os("HEAPWRIGHT_POSTGRES_REGRESS")
        .map(PathBuf::from)
        .expect("HEAPWRIGHT_POSTGRES_REGRESS names PostgreSQL's src/test/regress");
    let pgxs = Command::new("pg_config").arg("--pgxs").output().expect("pg_config");
    // Beside pgxs/src/makefiles/pgxs.mk.
    let pgxs = PathBuf::from(String::from_utf8_lossy(&pgxs.stdout).trim());
    let runner = pgxs.ancestors().nth(3).expect("a directory").join("src/test/regress/pg_regress");
    assert!(runner.exists(), "{} is missing", runner.display());
    let home = directory().join("postgres_regression");
    fs::set_permissions(directory(), fs::Permissions::from_mode(0o755)).expect("the mode");
    for (preload, name) in [(None, "plain"), (Some(subject()), "subject")] {
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).expect("a directory");
        let copied = Command::new("cp").arg("-r").arg(suite.join(".")).arg(&home).status();
        assert!(copied.expect("cp").success(), "{} cannot be copied", suite.display());
        let mut server = String::new();
        if let Some(object) = preload {
            let copy = home.join("libheapwright_subject.so");
            fs::copy(object, &copy).expect("copied");
            server = format!("LD_PRELOAD='{}'", copy.display());
        }
        let script = format!(
            "set -e; cd '{home}'; bin=$(pg_config --bindir); \
             $bin/initdb -D cluster -A trust --no-locale --encoding=UTF8 >/dev/null; \
             echo \"unix_socket_directories = '{home}'\" >> cluster/postgresql.conf; \
             {server} $bin/pg_ctl -D cluster -w -o '-h \"\" -c fsync=off' -l log start >/dev/null; \
             grep -c libheapwright_subject /proc/$(head -1 cluster/postmaster.pid)/maps || true; \
             '{runner}' --inputdir=. --outputdir=. --dlpath=. --bindir=$bin --host='{home}' \
               --user=postgres --schedule=parallel_schedule --max-concurrent-tests=20 >out 2>&1 \
               || true; \
             $bin/pg_ctl -D cluster -w -m fast stop >/dev/null; \
             grep -E ' tests passed|FAILED' out; \
             grep -E 'terminated by signal|PANIC|heapwright' log || true",
            home = home.display(),
            runner = runner.display(),
        );
        let output = as_postgres(&home, &script).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{name}: {said}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {complaint}");
        let lines: Vec<&str> = said.lines().collect();
        let is_loaded = lines[0].trim() != "0";
        assert_eq!(is_loaded, name == "subject", "{name}: {said}");
        assert!(lines[1].trim().starts_with("All "), "{name}: {said}");
        assert_eq!(lines.len(), 2, "{name}: {said}");
    }
}
