// Checks that AWS's SDK for JavaScript logs in by itself; scripts/clients.sh runs
// them. Its environment has no token.
import { setTimeout } from "node:timers/promises";
import * as sdk from "@aws-sdk/client-kms";

const how = process.env.LOGIN_BY;
let failed = false;
function check(name, good, detail) {
  failed ||= !good;
  console.log(`${good ? "ok   " : "FAIL "} js: ${name} by ${how}${good ? "" : `: ${detail}`}`);
}

const kms = new sdk.KMSClient({});
const input = { KeyId: "payments/tokens", Message: new TextEncoder().encode("pay 10 EUR"), MacAlgorithm: "HMAC_SHA_256" };
const end = Date.now() + 1000 * process.env.LOGIN_SECONDS;
let mac, calls = 0;
while (Date.now() < end) {
  const made = Buffer.from((await kms.send(new sdk.GenerateMacCommand(input))).Mac).toString("hex");
  mac ??= made;
  calls += made === mac;
  await setTimeout(500);
}
check("GenerateMac across a refresh", calls > 1, calls);
try {
  await kms.send(new sdk.ListKeysCommand({}));
  check("AccessDeniedException", false, "it succeeded");
} catch (error) {
  const good = error.name === "AccessDeniedException" && error.message.startsWith("User: arn:aws:sts::000000000000:assumed-role/payments/");
  check("AccessDeniedException", good, `${error.name}: ${error.message}`);
}
process.exit(failed ? 1 : 0);
