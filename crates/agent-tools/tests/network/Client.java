// Reads a URL with one of the clients of Java, and prints the answer.
// Arguments: the client, the URL, and the file of the authority.

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
        SSLContext.setDefault(trusting(arguments[2]));
        if (arguments[0].equals("HttpClient")) {
            HttpRequest request = HttpRequest.newBuilder(uri).build();
            var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
            finish(answer.statusCode(), answer.body());
        } else {
            var connection = (HttpURLConnection) uri.toURL().openConnection();
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
