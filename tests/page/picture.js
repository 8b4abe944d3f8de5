async (base64) => {
  const COLOURS = 256;
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const { width, height } = image;
  const canvas = new OffscreenCanvas(width, height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const pixels = new Uint32Array(canvas.getImageData(0, 0, width, height).data.buffer);

  // The most frequent colours stay as they are; each other one becomes the nearest of them.
  const counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, COLOURS).map(([pixel]) => pixel);
  const rgb = (pixel) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
  const places = new Map(palette.map((pixel, place) => [pixel, place]));
  const distance = (one, other) => one.reduce((sum, part, index) => sum + (part - other[index]) ** 2, 0);
  const nearest = (pixel) => {
    const distances = palette.map((other) => distance(rgb(pixel), rgb(other)));
    return distances.indexOf(Math.min(...distances));
  };
  for (const pixel of counts.keys()) if (!places.has(pixel)) places.set(pixel, nearest(pixel));

  // Each row begins with its filter: none.
  const rows = new Uint8Array((width + 1) * height);
  pixels.forEach((pixel, index) => {
    rows[index + Math.floor(index / width) + 1] = places.get(pixel);
  });
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(packed).arrayBuffer());

  // The PNG specification, sections 5 and 11.
  const crc = (content) => {
    let sum = ~0;
    for (const byte of content) {
      sum ^= byte;
      for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
    }
    return ~sum;
  };
  const number = (value) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  const chunk = (name, content) => {
    const named = [...new TextEncoder().encode(name), ...content];
    return new Uint8Array([...number(content.length), ...named, ...number(crc(named))]);
  };
  const png = new Blob([
    new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", [...number(width), ...number(height), 8, 3, 0, 0, 0]),
    chunk("PLTE", palette.flatMap(rgb)),
    chunk("IDAT", data),
    chunk("IEND", []),
  ]);
  let text = "";
  for (const byte of new Uint8Array(await png.arrayBuffer())) text += String.fromCharCode(byte);
  return btoa(text);
}
