// The picture: a crystal and the surfaces of its tensors on a canvas, without WebGL, which a machine without a graphics
// card takes many seconds for. Everything is cut into small parts (an atom, half a bond, a piece of an edge, a patch of
// a surface), which are painted from the farthest to the nearest. What `scene` and `surfaces` are: zoo/ui/scene.py.
(() => {
  const ROWS = 25, COLUMNS = 48; // of a surface's grid, as in zoo/ui/surface.py
  const BOND = 0.1; // Å, radius
  const BEYOND = 0.75; // size of atoms outside of the cells
  const LINE = "#6b7280", INK = "#1f2933", VECTORS = ["#b3261e", "#2e7d32", "#1f4fa8"];
  const LIGHT = [-0.45, 0.55, 0.7]; // where it comes from: left, above, in front

  const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
  const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
  const times = (a, k) => [a[0] * k, a[1] * k, a[2] * k];
  const mix = (a, b, k) => add(times(a, 1 - k), times(b, k));
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => times(a, 1 / (Math.hypot(...a) || 1));

  // Rows: to the right, up and towards the viewer, who is in the direction `eye`.
  function view(eye, up) {
    const ahead = unit(eye);
    let right = cross(up, ahead);
    if (Math.hypot(...right) < 1e-6) right = cross([0, 1, 0], ahead);
    right = unit(right);
    return [right, cross(ahead, right), ahead];
  }

  const START = view([1.15, -1.45, 0.55], [0, 0, 1]);

  // A colour mixed with white (k > 0) or with black (k < 0).
  function shade(colour, k) {
    const to = k > 0 ? 255 : 0;
    const parts = [1, 3, 5].map((n) => parseInt(colour.slice(n, n + 2), 16));
    return `rgb(${parts.map((x) => Math.round(x + (to - x) * Math.abs(k))).join(",")})`;
  }

  const balls = {};
  // A ball of one colour, painted once and then only scaled.
  function ball(colour) {
    if (!balls[colour]) {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 128;
      const pen = canvas.getContext("2d");
      const light = pen.createRadialGradient(46, 42, 4, 58, 56, 70);
      light.addColorStop(0, shade(colour, 0.75));
      light.addColorStop(0.25, shade(colour, 0.2));
      light.addColorStop(0.7, shade(colour, -0.12));
      light.addColorStop(1, shade(colour, -0.5));
      pen.fillStyle = light;
      pen.beginPath();
      pen.arc(64, 64, 63, 0, 2 * Math.PI);
      pen.fill();
      balls[colour] = canvas;
    }
    return balls[colour];
  }

  // The parts of a picture: {at: [points], kind, ...}, `at` in Å.
  function partsOf(scene, surfaces, shown) {
    const parts = [];
    const line = (from, to, pieces, style) => {
      for (let n = 0; n < pieces; n++) {
        parts.push({ kind: "line", at: [mix(from, to, n / pieces), mix(from, to, (n + 1) / pieces)], ...style });
      }
    };
    const atoms = scene.atoms.map(([x, y, z, element, site, beyond]) => {
      const { colour, radius } = scene.elements[element];
      return { kind: "atom", at: [[x, y, z]], colour, radius: radius * (beyond ? BEYOND : 1), site, beyond };
    });
    const visible = (atom) => !atom.beyond || shown.includes("beyond");
    if (shown.includes("atoms")) parts.push(...atoms.filter(visible));
    if (shown.includes("bonds")) {
      for (const [i, j] of scene.bonds) {
        if (!visible(atoms[i]) || !visible(atoms[j])) continue;
        for (const [near, far] of [[atoms[i], atoms[j]], [atoms[j], atoms[i]]]) {
          const from = near.at[0], to = far.at[0];
          const out = (0.93 * near.radius) / Math.hypot(...sub(to, from));
          const start = shown.includes("atoms") && out < 0.5 ? mix(from, to, out) : from;
          parts.push({ kind: "bond", at: [start, mix(from, to, 0.5)], colour: near.colour, pale: near.beyond });
        }
      }
    }
    if (shown.includes("polyhedra")) {
      for (const [centre, faces] of scene.polyhedra) {
        for (const face of faces) {
          parts.push({ kind: "face", at: face.map((n) => atoms[n].at[0]), colour: atoms[centre].colour, alpha: 0.35, edge: 1 });
        }
      }
    }
    const place = (x, y, z) => add(add(times(scene.cell[0], x), times(scene.cell[1], y)), times(scene.cell[2], z));
    if (shown.includes("cell")) {
      const n = scene.cells;
      for (let axis = 0; axis < 3; axis++) {
        for (let p = 0; p <= n; p++) {
          for (let q = 0; q <= n; q++) {
            const from = [p, q], to = [p, q];
            from.splice(axis, 0, 0);
            to.splice(axis, 0, n);
            const first = p === 0 && q === 0;
            // The lattice vectors themselves in colours, and named.
            if (first) line(place(...from), scene.cell[axis], 8, { colour: VECTORS[axis], width: 2.5 });
            if (!first || n > 1) {
              line(first ? scene.cell[axis] : place(...from), place(...to), 8 * n, { colour: LINE, width: 1 });
            }
          }
        }
        const end = scene.cell[axis];
        const beyond = n === 1 ? 1 + 0.9 / Math.hypot(...end) : 0.5;
        parts.push({ kind: "text", at: [times(end, beyond)], text: "abc"[axis], colour: VECTORS[axis] });
      }
    }
    if (shown.includes("surface")) {
      const centre = place(scene.cells / 2, scene.cells / 2, scene.cells / 2);
      for (const surface of surfaces) parts.push(...surfaceParts(surface, centre));
    }
    return parts;
  }

  function surfaceParts({ colour, matrix, radii, axes }, centre) {
    const parts = [];
    const along = (x, y, z) => add(centre, add(add(times(matrix[0], x), times(matrix[1], y)), times(matrix[2], z)));
    const point = (row, column) => {
      const down = (Math.PI * row) / (ROWS - 1), around = (2 * Math.PI * column) / COLUMNS;
      const r = radii ? radii[row][column % COLUMNS] : 1;
      return along(r * Math.sin(down) * Math.cos(around), r * Math.sin(down) * Math.sin(around), r * Math.cos(down));
    };
    const points = Array.from({ length: ROWS }, (_, row) => Array.from({ length: COLUMNS }, (_, n) => point(row, n)));
    for (let row = 0; row + 1 < ROWS; row++) {
      for (let n = 0; n < COLUMNS; n++) {
        const next = (n + 1) % COLUMNS;
        const at = [points[row][n], points[row][next], points[row + 1][next], points[row + 1][n]];
        parts.push({ kind: "face", at, colour, alpha: 0.2 });
      }
    }
    if (axes) {
      const ends = [along(1, 0, 0), along(0, 1, 0), along(0, 0, 1)];
      for (let k = 0; k < 3; k++) {
        const [p, q] = [sub(ends[k], centre), sub(ends[(k + 1) % 3], centre)];
        for (let n = 0; n < 48; n++) {
          const ring = (m) => {
            const turn = (2 * Math.PI * m) / 48;
            return add(centre, add(times(p, Math.cos(turn)), times(q, Math.sin(turn))));
          };
          parts.push({ kind: "line", at: [ring(n), ring(n + 1)], colour, width: 1.2 });
        }
        for (const side of [1, -1]) {
          for (let n = 0; n < 6; n++) {
            const at = [add(centre, times(p, (side * n) / 6)), add(centre, times(p, (side * (n + 1)) / 6))];
            parts.push({ kind: "line", at, colour, width: 2 });
          }
        }
      }
    }
    return parts;
  }

  class Picture {
    constructor(canvas) {
      this.canvas = canvas;
      this.pen = canvas.getContext("2d");
      this.shown = [];
      this.name = null;
      this.scene = null;
      this.surfaces = [];
      this.pointers = new Map();
      this.tip = document.getElementById("tip");
      this.reset();
      this.listen();
      new ResizeObserver(() => this.later()).observe(canvas);
    }

    reset() {
      this.turned = START;
      this.zoom = 1;
      this.fit = null;
      this.later();
    }

    look(axis) {
      const [a, b, c] = this.scene ? this.scene.cell : [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
      this.turned = view([a, b, c][axis], axis === 2 ? b : c);
      this.fit = null;
      this.later();
    }

    set(scene, surfaces, shown) {
      // The camera stays where it is while the crystal is the same.
      const name = scene && JSON.stringify([scene.cell, scene.sites]);
      if (name !== this.name) {
        this.turned = START;
        this.zoom = 1;
      }
      if (name !== this.name || (scene && scene.cells !== this.scene.cells)) this.fit = null;
      Object.assign(this, { name, scene, surfaces, shown });
      this.parts = scene ? partsOf(scene, surfaces, shown) : [];
      this.later();
    }

    later() {
      if (!this.waiting) {
        this.waiting = true;
        requestAnimationFrame(() => {
          this.waiting = false;
          this.draw();
        });
      }
    }

    // Pixels to 1 Å, so that all of the crystal is in the picture as it is turned now.
    scale(width, height) {
      if (!this.fit) {
        const all = [...partsOf(this.scene, this.surfaces, ["atoms", "beyond", "cell", "surface"])].flatMap((part) => part.at);
        const most = (row) => 0.8 + Math.max(...all.map((p) => Math.abs(dot(row, sub(p, this.centre)))));
        this.fit = [most(this.turned[0]), most(this.turned[1])];
      }
      return this.zoom * Math.min((0.5 * width - 8) / this.fit[0], (0.5 * height - 8) / this.fit[1]);
    }

    draw() {
      const { canvas, pen } = this;
      const dense = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
      if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
        canvas.width = Math.round(width * dense);
        canvas.height = Math.round(height * dense);
        this.fit = null;
      }
      pen.setTransform(dense, 0, 0, dense, 0, 0);
      pen.clearRect(0, 0, width, height);
      this.atoms = [];
      if (!this.scene || !width) return;
      const { cell, cells } = this.scene;
      this.centre = times(add(add(cell[0], cell[1]), cell[2]), cells / 2);
      const k = this.scale(width, height);
      const [right, up, ahead] = this.turned;
      const flat = (p) => {
        const from = sub(p, this.centre);
        return [0.5 * width + k * dot(right, from), 0.5 * height - k * dot(up, from), dot(ahead, from)];
      };
      const placed = this.parts.map((part) => {
        const at = part.at.map(flat);
        // Names are above all; an edge of the cell along which bonds run is above these.
        const nearer = { text: 1e6, line: 2 * BOND }[part.kind] || 0;
        return { part, at, depth: nearer + at.reduce((sum, p) => sum + p[2], 0) / at.length };
      });
      placed.sort((a, b) => a.depth - b.depth);
      for (const { part, at } of placed) this[part.kind](part, at, k);
      this.triad(height);
    }

    atom(part, [[x, y]], k) {
      const r = part.radius * k;
      this.pen.globalAlpha = part.beyond ? 0.55 : 1;
      this.pen.drawImage(ball(part.colour), x - r, y - r, 2 * r, 2 * r);
      this.pen.globalAlpha = 1;
      this.atoms.push([x, y, r, part.site]);
    }

    stroke(at, colour, width, cap = "butt") {
      const { pen } = this;
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.lineCap = cap;
      pen.beginPath();
      pen.moveTo(at[0][0], at[0][1]);
      pen.lineTo(at[1][0], at[1][1]);
      pen.stroke();
    }

    line(part, at) {
      this.stroke(at, part.colour, part.width, "round");
    }

    bond(part, at, k) {
      this.pen.globalAlpha = part.pale ? 0.55 : 1;
      this.stroke(at, shade(part.colour, -0.35), 2 * BOND * k);
      this.stroke(at, part.colour, 1.3 * BOND * k);
      this.stroke(at, shade(part.colour, 0.45), 0.45 * BOND * k);
      this.pen.globalAlpha = 1;
    }

    face(part, at) {
      const { pen } = this;
      const [a, b, c] = [part.at[0], part.at[1], part.at[2]];
      let normal = unit(cross(sub(b, a), sub(c, a)));
      if (!Math.hypot(...normal)) normal = unit(cross(sub(c, a), sub(part.at[part.at.length - 1], a)));
      const seen = this.turned.map((row) => dot(row, normal));
      const lit = Math.abs(dot(seen, LIGHT)); // seen from either side
      pen.globalAlpha = part.alpha;
      pen.fillStyle = shade(part.colour, 0.7 * lit - 0.25);
      pen.beginPath();
      at.forEach(([x, y], n) => (n ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.closePath();
      pen.fill();
      if (part.edge) {
        pen.globalAlpha = 0.7;
        pen.strokeStyle = shade(part.colour, -0.3);
        pen.lineWidth = part.edge;
        pen.stroke();
      }
      pen.globalAlpha = 1;
    }

    text(part, [[x, y]]) {
      const { pen } = this;
      pen.font = "bold 15px system-ui, 'DejaVu Sans', sans-serif";
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.lineWidth = 3;
      pen.strokeStyle = "#fff";
      pen.strokeText(part.text, x, y);
      pen.fillStyle = part.colour;
      pen.fillText(part.text, x, y);
    }

    // The Cartesian axes, in a corner and of one size whatever the zoom.
    triad(height) {
      const start = [46, height - 46], length = 26;
      const axes = [0, 1, 2].map((n) => ({ n, x: this.turned[0][n], y: this.turned[1][n], z: this.turned[2][n] }));
      axes.sort((a, b) => a.z - b.z);
      for (const { n, x, y } of axes) {
        this.stroke([start, [start[0] + length * x, start[1] - length * y]], INK, 2, "round");
        this.text({ text: "xyz"[n], colour: INK }, [[start[0] + (length + 11) * x, start[1] - (length + 11) * y]]);
      }
    }

    // Turns by so many pixels to the right and down.
    turn(dx, dy) {
      const [right, up, ahead] = this.turned;
      const by = (first, second, angle) => {
        const c = Math.cos(angle), s = Math.sin(angle);
        return [add(times(first, c), times(second, s)), sub(times(second, c), times(first, s))];
      };
      const [one, front] = by(right, ahead, -0.01 * dx);
      const [two, end] = by(up, front, 0.01 * dy);
      this.turned = [unit(one), unit(two), unit(end)];
      this.later();
    }

    listen() {
      const { canvas, pointers } = this;
      const spread = () => {
        const [a, b] = [...pointers.values()];
        return Math.hypot(a[0] - b[0], a[1] - b[1]);
      };
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        pointers.set(event.pointerId, [event.clientX, event.clientY]);
      });
      canvas.addEventListener("pointermove", (event) => {
        const before = pointers.get(event.pointerId);
        if (!before) return this.point(event);
        this.tip.hidden = true;
        const apart = pointers.size === 2 ? spread() : 0;
        pointers.set(event.pointerId, [event.clientX, event.clientY]);
        if (apart) this.closer(spread() / apart);
        else this.turn(event.clientX - before[0], event.clientY - before[1]);
      });
      for (const end of ["pointerup", "pointercancel"]) {
        canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
      }
      canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
      canvas.addEventListener("dblclick", () => this.reset());
      canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.closer(Math.exp(-0.001 * event.deltaY));
      });
      canvas.addEventListener("keydown", (event) => {
        const steps = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10] };
        if (steps[event.key]) this.turn(...steps[event.key]);
        else if ("+=".includes(event.key)) this.closer(1.1);
        else if (event.key === "-") this.closer(1 / 1.1);
        else return;
        event.preventDefault();
      });
    }

    closer(by) {
      this.zoom = Math.min(20, Math.max(0.2, this.zoom * by));
      this.later();
    }

    // Says which atom is under the pointer.
    point(event) {
      const box = this.canvas.getBoundingClientRect();
      const x = event.clientX - box.left, y = event.clientY - box.top;
      const found = this.atoms && this.atoms.findLast(([ax, ay, r]) => Math.hypot(ax - x, ay - y) < r);
      this.tip.hidden = !found;
      if (found) {
        this.tip.textContent = this.scene.sites[found[3]];
        this.tip.style.left = `${Math.min(x + 12, box.width - 190)}px`;
        this.tip.style.top = `${y + 14}px`;
      }
    }

    save() {
      const copy = document.createElement("canvas");
      copy.width = this.canvas.width;
      copy.height = this.canvas.height;
      const pen = copy.getContext("2d");
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, copy.width, copy.height);
      pen.drawImage(this.canvas, 0, 0);
      const link = document.createElement("a");
      link.download = "crystal.png";
      link.href = copy.toDataURL("image/png");
      link.click();
    }
  }

  let picture = null;
  // The picture on the canvas of the page, which is made anew where the page has been.
  window.zooPicture = () => {
    const canvas = document.getElementById("picture");
    if (!picture || picture.canvas !== canvas) picture = new Picture(canvas);
    return picture;
  };
})();
