// Reads a URL with one of the clients of Java, and prints the answer.
// Arguments: the client, the URL, and the file of the authority. Without a file, the client trusts
// what it trusts anyway, and the request has the variable KEY.

import java.io.FileInputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    public static void main(String[] arguments) throws Exception {
        URI uri = URI.create(arguments[1]);
        boolean hasKey = arguments.length < 3;
        String key = "Bearer " + System.getenv("KEY");
        if (!hasKey) {
            SSLContext.setDefault(trusting(arguments[2]));
        }
        if (arguments[0].equals("HttpClient")) {
            var request = HttpRequest.newBuilder(uri);
            if (hasKey) {
                request.header("authorization", key);
            }
            var client = HttpClient.newHttpClient();
            var answer = client.send(request.build(), BodyHandlers.ofString());
            finish(answer.statusCode(), answer.body());
        } else {
            var connection = (HttpURLConnection) uri.toURL().openConnection();
            if (hasKey) {
                connection.setRequestProperty("authorization", key);
            }
            int status = connection.getResponseCode();
            finish(status, new String(connection.getInputStream().readAllBytes()));
        }
    }

    private static SSLContext trusting(String authority) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (var file = new FileInputStream(authority)) {
            var certificate = CertificateFactory.getInstance("X.509").generateCertificate(file);
            trusted.setCertificateEntry("authority", certificate);
        }
        var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }

    private static void finish(int status, String text) {
        System.out.println(status + " " + text);
        System.exit(status == 200 ? 0 : 1);
    }
}
