import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.NullNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import com.standardwebhooks.Webhook;
import io.cloudevents.CloudEvent;
import io.cloudevents.http.HttpMessageFactory;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.IOException;
import java.net.http.HttpHeaders;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Reads a request per line, {"headers", "body_base64", "secret"}, and prints a verdict per line. The signature is judged by
 * the official Standard Webhooks library, the event is read by the CloudEvents SDK.
 */
public final class Verify {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws IOException {
    var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (var line = lines.readLine(); line != null; line = lines.readLine()) {
      var request = JSON.readTree(line);
      var headers = new HashMap<String, String>();
      request.get("headers").fields().forEachRemaining(field -> headers.put(field.getKey(), field.getValue().asText()));
      var body = request.get("body_base64").binaryValue();
      var verdict = JSON.createObjectNode();
      verify(verdict, request.get("secret").asText(), headers, body);
      parse(verdict, headers, body);
      System.out.write((JSON.writeValueAsString(verdict) + "\n").getBytes(StandardCharsets.UTF_8));
    }
    System.out.flush();
  }

  private static void verify(ObjectNode verdict, String secret, Map<String, String> headers, byte[] body) {
    var lists = new HashMap<String, List<String>>();
    headers.forEach((name, value) -> lists.put(name, List.of(value)));
    try {
      var text = new String(body, StandardCharsets.UTF_8);
      new Webhook(secret).verify(text, HttpHeaders.of(lists, (name, value) -> true));
      verdict.put("ok", true).putNull("error");
    } catch (Exception error) {
      verdict.put("ok", false).put("error", error.toString());
    }
  }

  private static void parse(ObjectNode verdict, Map<String, String> headers, byte[] body) {
    try {
      var event = HttpMessageFactory.createReader(headers, body).toEvent();
      var shown = JSON.createObjectNode();
      shown.put("id", event.getId()).put("type", event.getType()).put("source", event.getSource().toString());
      shown.put("time", event.getTime() == null ? null : event.getTime().toEpochSecond());
      shown.put("datacontenttype", event.getDataContentType());
      shown.put("tenantid", (String) event.getExtension("tenantid")).set("data", data(event));
      verdict.putNull("event_error").set("event", shown);
    } catch (Exception error) {
      verdict.put("event_error", error.toString()).putNull("event");
    }
  }

  /** JSON, a text, or anything else in base64, by its type. Without a type, an event in JSON has JSON. */
  private static JsonNode data(CloudEvent event) throws IOException {
    var type = event.getDataContentType() == null ? "application/json" : event.getDataContentType();
    var bytes = event.getData() == null ? new byte[0] : event.getData().toBytes();
    if (bytes.length == 0) {
      return NullNode.getInstance();
    }
    if (type.contains("json")) {
      return JSON.readTree(bytes);
    }
    var text = type.startsWith("text/") ? new String(bytes, StandardCharsets.UTF_8) : Base64.getEncoder().encodeToString(bytes);
    return TextNode.valueOf(text);
  }
}
