// The four workloads for the JVM: as in ours.rs, operation by operation.
// java -cp DIR Bench WORKLOAD SIZE; prints checksum, seconds, CPU seconds, longest gap in ms, collections.
import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;

public class Bench {
    static long lastTick = System.nanoTime(), gapMax = 0;
    static int ticks = 0;

    static void tick() {
        if (++ticks % 4 == 0) {
            long now = System.nanoTime();
            gapMax = Math.max(gapMax, now - lastTick);
            lastTick = now;
        }
    }

    static final class Tree {
        Tree left, right;
        int a, b;
        Tree() {}
        Tree(Tree left, Tree right) { this.left = left; this.right = right; }
        static Tree bottomUp(int depth) {
            return depth == 0 ? new Tree() : new Tree(bottomUp(depth - 1), bottomUp(depth - 1));
        }
        void topDown(int depth) {
            if (depth > 0) {
                left = new Tree();
                right = new Tree();
                left.topDown(depth - 1);
                right.topDown(depth - 1);
            }
        }
        long count() {
            return 1 + (left == null ? 0 : left.count()) + (right == null ? 0 : right.count());
        }
    }

    static long size(int depth) { return (2L << depth) - 1; }

    static long gcbench(int depth) {
        long sum = Tree.bottomUp(depth + 2).count();
        Tree longLived = new Tree();
        longLived.topDown(depth);
        double[] array = new double[2000000 >> (18 - depth)];
        for (int i = 0; i < array.length; i++) array[i] = 1.0 / (i + 1);
        for (int d = 4; d <= depth; d += 2) {
            long count = 2 * size(depth + 2) / size(d);
            for (long i = 0; i < count; i++) {
                Tree tree = new Tree();
                tree.topDown(d);
                sum += tree.left != null ? 1 : 0;
                tick();
            }
            for (long i = 0; i < count; i++) {
                sum += Tree.bottomUp(d).left != null ? 1 : 0;
                tick();
            }
        }
        return sum + longLived.count() + (long) (array[999] * 1e6);
    }

    static long binaryTrees(int depth) {
        long sum = Tree.bottomUp(depth + 1).count();
        Tree longLived = Tree.bottomUp(depth);
        for (int d = 4; d <= depth; d += 2)
            for (long i = 0; i < 1L << (depth - d + 4); i++) {
                sum += Tree.bottomUp(d).count();
                tick();
            }
        return sum + longLived.count();
    }

    static long state;
    static void seed(long seed) { state = seed * 0x9e3779b97f4a7c15L | 1; }
    static long next() {
        state ^= state >>> 12;
        state ^= state << 25;
        state ^= state >>> 27;
        return state * 0x2545f4914f6cdd1dL;
    }
    static long below(long bound) { return ((next() >>> 33) * bound) >>> 31; }

    static final class Node {
        Node next;
        long previousPlace, place, version, c, d;
        Node(long place, long previous, long version) {
            this.place = place;
            this.previousPlace = previous;
            this.version = version;
        }
    }

    static Node sink;

    static long graph(int count) {
        seed(1);
        Node[][] chunks = new Node[count / 1024][1024];
        for (int i = 0; i < count; i++) chunks[i / 1024][i % 1024] = new Node(i, i, 0);
        int[] order = new int[count];
        for (int i = 0; i < count; i++) order[i] = i;
        for (int i = count - 1; i > 0; i--) {
            int other = (int) below(i + 1);
            int swap = order[i];
            order[i] = order[other];
            order[other] = swap;
        }
        int[] previous = new int[count];
        for (int i = 0; i < count; i++) {
            int place = order[i], next = order[(i + 1) % count];
            chunks[place / 1024][place % 1024].next = chunks[next / 1024][next % 1024];
            previous[next] = place;
        }
        order = null;
        long sum = 0;
        for (int step = 0; step < count; step++) {
            int place = (int) below(count);
            Node old = chunks[place / 1024][place % 1024];
            int before = previous[place];
            Node made = new Node(place, before, old.version + 1);
            made.next = old.next;
            for (int i = 0; i < 2; i++) {
                Node temporary = new Node(place, before, 7);
                temporary.next = made;
                sink = temporary;
                sum += temporary.version;
            }
            sink = null;
            chunks[place / 1024][place % 1024] = made;
            chunks[before / 1024][before % 1024].next = made;
            if (step % 64 == 0) tick();
        }
        Node at = chunks[0][0];
        long ring = 0;
        for (int i = 0; i < count; i++) {
            ring = ring * 31 + (at.place ^ (at.version << 32));
            at = at.next;
        }
        return sum + ring;
    }

    static final class Entry {
        long key;
        byte[] value;
        Entry newer, older, chain;
    }

    static Entry newest, oldest;

    static void unlink(Entry e) {
        if (e.newer == null) newest = e.older; else e.newer.older = e.older;
        if (e.older == null) oldest = e.newer; else e.older.newer = e.newer;
    }

    static void push(Entry e) {
        e.older = newest;
        e.newer = null;
        if (newest == null) oldest = e; else newest.newer = e;
        newest = e;
    }

    static long lru(int capacity) {
        seed(2);
        int buckets = Integer.highestOneBit(capacity - 1) << 1;
        Entry[] table = new Entry[buckets];
        long hits = 0, sum = 0;
        int len = 0;
        for (long step = 0; step < 12L * capacity; step++) {
            if (step % 64 == 0) tick();
            long range = 4L * capacity;
            long a = below(range), b = below(range), key = Math.min(a, b);
            long hash = key * 0x9e3779b97f4a7c15L;
            int bucket = (int) (hash >>> 20) & (buckets - 1);
            Entry e = table[bucket];
            while (e != null && e.key != key) e = e.chain;
            if (e != null) {
                hits++;
                sum += e.value[17] & 0xff;
                unlink(e);
                push(e);
                continue;
            }
            if (len == capacity) {
                Entry old = oldest;
                unlink(old);
                int at = (int) (old.key * 0x9e3779b97f4a7c15L >>> 20) & (buckets - 1);
                if (table[at] == old) table[at] = old.chain;
                else {
                    Entry link = table[at];
                    while (link.chain != old) link = link.chain;
                    link.chain = old.chain;
                }
                len--;
            }
            byte[] value = new byte[64 + (int) ((hash >>> 32) % 192)];
            for (int i = 0; i < value.length; i++) value[i] = (byte) (key + i);
            Entry made = new Entry();
            made.key = key;
            made.value = value;
            made.chain = table[bucket];
            table[bucket] = made;
            push(made);
            len++;
        }
        return (hits << 32) | (sum & 0xffffffffL);
    }

    public static void main(String[] arguments) {
        int size = Integer.parseInt(arguments[1]);
        var system = (com.sun.management.OperatingSystemMXBean)
            ManagementFactory.getOperatingSystemMXBean();
        long beginCpu = system.getProcessCpuTime();
        long begin = System.nanoTime();
        long sum = switch (arguments[0]) {
            case "gcbench" -> gcbench(size);
            case "binary_trees" -> binaryTrees(size);
            case "graph" -> graph(size);
            default -> lru(size);
        };
        double seconds = (System.nanoTime() - begin) / 1e9;
        double cpu = (system.getProcessCpuTime() - beginCpu) / 1e9;
        long collections = 0;
        for (GarbageCollectorMXBean bean : ManagementFactory.getGarbageCollectorMXBeans())
            collections += bean.getCollectionCount();
        System.out.println(sum + " " + seconds + " " + cpu + " " + gapMax / 1e6 + " " + collections);
    }
}
