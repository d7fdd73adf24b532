import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;

/** Verifies each request of standard input with the code of docs/guides/verify/java.md. */
public final class Main {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] fields = line.split("\t", -1);
            Map<String, String> headers = new HashMap<>();
            for (int i = 2; i < fields.length; i++) {
                String[] header = fields[i].split(": ", 2);
                headers.put(header[0], header[1]);
            }
            byte[] body = Base64.getDecoder().decode(fields[1]);
            System.out.println(Webhook.verify(fields[0], headers, body) ? "accepted" : "refused");
        }
    }
}
