// sharp, one thread, by the protocol of contenders.py: a JSON object a line in, a JSON object a line out.
import { createInterface } from "node:readline";
import sharp from "sharp";

sharp.concurrency(1);
sharp.cache(false);

for await (const line of createInterface({ input: process.stdin })) {
  const { source, output, width, height } = JSON.parse(line);
  const [before, start] = [process.cpuUsage(), process.hrtime.bigint()];
  const image = sharp(source).resize(width, height, { fit: "fill" });
  await (source.endsWith(".png") ? image.png({ compressionLevel: 6 }) : image.jpeg({ quality: 85 })).toFile(output);
  const [used, wall] = [process.cpuUsage(before), Number(process.hrtime.bigint() - start) / 1e9];
  const cpu = (used.user + used.system) / 1e6;
  console.log(JSON.stringify({ cpu, wall, peak_kb: process.resourceUsage().maxRSS }));
}
