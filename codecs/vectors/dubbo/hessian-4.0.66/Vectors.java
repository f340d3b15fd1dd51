import com.caucho.hessian.io.Hessian2Output;
import com.caucho.hessian.io.SerializerFactory;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.Serializable;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.LinkedList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Writes Dubbo requests whose arguments and attachments have every form that Caucho's own Hessian 2 writer gives. */
public class Vectors {
    static class User implements Serializable {
        String name;
        int age;
        long id;
        double score;
        boolean active;
        byte[] photo;
        Date born;
        User boss;
        List<Object> tags = new ArrayList<>();
        Map<String, Object> more = new LinkedHashMap<>();

        User(String name) {
            this.name = name;
        }
    }

    static class Node implements Serializable {
        Node next;
        int value;

        Node(int value, Node next) {
            this.value = value;
            this.next = next;
        }
    }

    static class C0 implements Serializable { int a = 1; }
    static class C1 implements Serializable { int a = 1, b = 2; }
    static class C2 implements Serializable { String a = "x"; Object b = new C0(); }
    static class C3 implements Serializable { int a; }
    static class C4 implements Serializable { int a; }
    static class C5 implements Serializable { int a; }
    static class C6 implements Serializable { int a; }
    static class C7 implements Serializable { int a; }
    static class C8 implements Serializable { int a; }
    static class C9 implements Serializable { int a; }
    static class C10 implements Serializable { int a; }
    static class C11 implements Serializable { int a; }
    static class C12 implements Serializable { int a; }
    static class C13 implements Serializable { int a; }
    static class C14 implements Serializable { int a; }
    static class C15 implements Serializable { int a; }
    static class C16 implements Serializable { int a; }
    static class C17 implements Serializable { int a, b, c; }
    static class Empty implements Serializable {}
    enum Color { RED, GREEN }

    static Path folder;
    static int id;

    static void write(String name, Map<?, ?> more, Object... arguments) throws Exception {
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        Hessian2Output out = new Hessian2Output(body);
        SerializerFactory factory = new SerializerFactory();
        factory.setAllowNonSerializable(true);
        out.setSerializerFactory(factory);
        out.writeString("2.0.2");
        out.writeString("org.example.DemoService");
        out.writeString("1.0.0");
        out.writeString(name);
        out.writeString("Ljava/lang/Object;".repeat(arguments.length));
        for (Object argument : arguments) {
            out.writeObject(argument);
        }
        Map<Object, Object> attachments = new LinkedHashMap<>();
        attachments.put("first", "1");
        attachments.putAll(more);
        attachments.put("last", "é😀");
        // As a HashMap, so that the map is written without a type.
        out.writeMapBegin(null);
        out.addRef(attachments);
        for (Map.Entry<Object, Object> entry : attachments.entrySet()) {
            out.writeObject(entry.getKey());
            out.writeObject(entry.getValue());
        }
        out.writeMapEnd();
        out.flush();
        ByteArrayOutputStream frame = new ByteArrayOutputStream();
        DataOutputStream header = new DataOutputStream(frame);
        header.writeInt(0xdabbc200);
        header.writeLong(++id);
        header.writeInt(body.size());
        body.writeTo(frame);
        Files.write(folder.resolve(name + ".bin"), frame.toByteArray());
    }

    static void write(String name, Object... arguments) throws Exception {
        write(name, Collections.emptyMap(), arguments);
    }

    public static void main(String[] args) throws Exception {
        folder = Path.of(args[0]);
        for (int length : new int[] {0, 1, 31, 32, 1023, 1024, 32767, 32768, 32769, 70000}) {
            write("string-" + length, "a".repeat(length));
        }
        write("string-chinese", "你好，世界".repeat(300));
        write("string-emoji", "a😀b".repeat(11000));
        write("string-emoji-at-the-edge", "a".repeat(32767) + "😀");
        write("string-half-a-pair", "a\ud83d", "\ude00b");
        List<Object> integers = new ArrayList<>();
        for (long edge : new long[] {0, -16, 47, -17, 48, -2048, 2047, -2049, 2048, -262144, 262143, -262145, 262144,
                Integer.MIN_VALUE, Integer.MAX_VALUE, -8, 15, -9, 16}) {
            integers.add((int) edge);
            integers.add(edge);
        }
        integers.add(Long.MIN_VALUE);
        integers.add(Long.MAX_VALUE);
        write("integers", integers.toArray());
        write("doubles", 0.0, 1.0, -1.0, 127.0, -128.0, 128.0, 32767.0, -32768.0, 32768.0, 0.001, 12.25, 1e300, Double.NaN);
        write("dates", new Date(0), new Date(1_700_000_040_000L), new Date(1_700_000_000_123L), true, false, null);
        for (int length : new int[] {0, 15, 16, 1023, 1024, 9000, 70000}) {
            write("binary-" + length, (Object) new byte[length]);
        }
        User boss = new User("Ada");
        User user = new User("Grace");
        user.boss = boss;
        user.photo = new byte[] {1, 2, 3};
        user.born = new Date(0);
        user.tags.addAll(List.of("a", 1, 2L, 3.5, true));
        user.tags.add(boss);
        user.more.put("self", user);
        user.more.put("none", null);
        write("object", user);
        write("objects-shared", user, user, List.of(user, boss), new User[] {boss, user});
        write("object-cyclic", new Object() { Object[] self = {this}; }.self);
        Node list = null;
        for (int i = 0; i < 200; i++) {
            list = new Node(i, list);
        }
        write("object-linked-list", list);
        write("classes-many", new C0(), new C1(), new C2(), new C3(), new C4(), new C5(), new C6(), new C7(), new C8(),
                new C9(), new C10(), new C11(), new C12(), new C13(), new C14(), new C15(), new C16(), new C17(),
                new C17(), new C16(), new C0(), new Empty());
        List<Object> lists = new ArrayList<>();
        for (int length = 0; length < 10; length++) {
            lists.add(new ArrayList<>(Collections.nCopies(length, "x")));
            lists.add(new LinkedList<>(Collections.nCopies(length, 1)));
            lists.add(new String[length]);
            lists.add(new int[length]);
            lists.add(new long[length]);
            lists.add(new Object[length]);
        }
        write("lists", lists.toArray());
        write("list-iterator", List.of(1, 2, 3).iterator());
        Object deep = "bottom";
        for (int i = 0; i < 100; i++) {
            deep = new ArrayList<>(Arrays.asList(deep, i));
        }
        write("list-deep", deep);
        Map<Object, Object> map = new TreeMap<>();
        map.put("k", new TreeMap<>(Map.of("n", 1)));
        map.put("l", new LinkedHashMap<>(Map.of(1, "one")));
        map.put("m", new TreeMap<>());
        write("maps", map, map, Map.of(List.of(1), user));
        write("others", Color.RED, Color.GREEN, new BigDecimal("12.50"), new IllegalStateException("broken"),
                StringBuilder.class, new Object[][] {{1}, {2, 3}});
        Map<String, Object> attachments = new LinkedHashMap<>();
        attachments.put("number", 42);
        attachments.put("long", 1L << 40);
        attachments.put("double", 2.5);
        attachments.put("flag", true);
        attachments.put("none", null);
        attachments.put("long-text", "é".repeat(40000));
        attachments.put("user", user);
        attachments.put("boss", boss);
        attachments.put("list", new ArrayList<>(List.of(new C0(), new C0())));
        attachments.put("again", new C0());
        write("attachments-mixed", attachments, user, boss);
        write("attachments-defining", attachments);
        write("attachments-referring", Map.of("user", user), user);
    }
}
